package redistest_test

import (
	"strings"
	"testing"
	"time"

	"orgcast/internal/testkit/redistest"
)

// TestStates: in each state writes are refused, what is published is delivered, and data are there
// afterwards.
func TestStates(t *testing.T) {
	for _, state := range redistest.States() {
		t.Run(string(state), func(t *testing.T) {
			s := redistest.StartServer(t)
			ctx, c := t.Context(), client(t, s.Addr, 30*time.Second)
			if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			subscription := c.Subscribe(ctx, "channel")
			defer subscription.Close()
			if _, err := subscription.Receive(ctx); err != nil {
				t.Fatal(err)
			}

			s.RefuseWrites(state)
			if err := c.Set(ctx, "k", "w", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), string(state)) {
				t.Errorf("SET: got %v, want %s", err, state)
			}
			if _, err := c.Get(ctx, "k").Result(); (err != nil) != state.ReadsRefused() {
				t.Errorf("GET: got %v, want refused: %v", err, state.ReadsRefused())
			}
			if n, err := c.Publish(ctx, "channel", "x").Result(); n != 1 || err != nil {
				t.Errorf("PUBLISH: got %d, %v, want 1", n, err)
			}
			if m, err := subscription.ReceiveMessage(ctx); err != nil || m.Payload != "x" {
				t.Errorf("got %v, %v, want the message", m, err)
			}

			s.Heal()
			if got, err := c.Get(ctx, "k").Result(); got != "v" || err != nil {
				t.Errorf("GET after Heal: got %q, %v, want v", got, err)
			}
		})
	}
}
