package demo_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/demo"
	"orgcast/internal/subconn"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestEmbeddedRedisTellsItsRoleBetweenEvents: the answer and the events of a subscriber are whole,
// however many come at the same time.
func TestEmbeddedRedisTellsItsRoleBetweenEvents(t *testing.T) {
	server, err := demo.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client := redistest.NewClient(t, server.Addr())
	conn := subconn.NewDialer(client, nil).Subscribe(t.Context())
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Send(t.Context(), "subscribe", "channel"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Receive(t.Context(), testkit.Patience); err != nil {
		t.Fatal(err)
	}
	const each = 300
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for i := range each {
			if err := client.Publish(t.Context(), "channel", strconv.Itoa(i)+strings.Repeat("x", 1000)).Err(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	sending.Go(func() {
		for range each {
			if err := conn.Ask(testkit.Patience); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for roles, events := 0, 0; roles < each || events < each; {
		received, err := conn.Receive(t.Context(), testkit.Patience)
		if err != nil {
			t.Fatalf("after %d answers and %d events: %v", roles, events, err)
		}
		switch m := received.(type) {
		case subconn.Role:
			if roles++; m != "master" {
				t.Fatalf("role: got %q, want master", m)
			}
		case *redis.Message:
			events++
		}
	}
}
