package redistest_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit/redistest"
)

// TestCluster moves a slot with its data, deposes a master and kills one.
func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{Replicas: true})
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ClusterStateReloadInterval: 100 * time.Millisecond})
	t.Cleanup(func() { _ = client.Close() })
	const key = "orgcast:{acme}:history:room"
	if err := client.Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	expect := func(what string) {
		t.Helper()
		if got, err := client.Get(t.Context(), key).Result(); err != nil || got != "v" {
			t.Fatalf("after %s: got %q, %v, want v", what, got, err)
		}
	}
	before := c.Owner(key)
	if before == nil {
		t.Fatal("nobody owns the key")
	}
	if to := c.MoveSlot(key); to == before || c.Owner(key) != to {
		t.Fatal("the slot has not moved")
	}
	expect("a move")

	before = c.Owner(key)
	c.Failover(key)
	if c.Owner(key) == before {
		t.Fatal("no failover")
	}
	expect("an ordered failover")

	before = c.Owner(key)
	if err := client.Wait(t.Context(), 1, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	before.Stop()
	c.AwaitOwnerOtherThan(key, before)
	expect("a crash")
}
