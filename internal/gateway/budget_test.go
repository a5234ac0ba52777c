package gateway_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestBudget: many slow browsers of one organization share what waits for it. Beyond that those
// that are behind give way; a quick one of the same organization and other organizations do not.
func TestBudget(t *testing.T) { budgetOver(t, webSockets) }

func budgetOver(t *testing.T, over via) {
	t.Helper()
	const slowOnes, size, limit = 8, 16000, 400 << 10
	for policy, reason := range map[string]string{"disconnect": "too_slow", "drop_oldest": "drop_oldest", "latest": "latest"} {
		t.Run(policy, func(t *testing.T) {
			n := slowNode(t, over, gateway.Options{QueueBytes: 1 << 20, QueueBytesPerOrganization: limit})
			var slow []*testkit.Client
			for range slowOnes {
				slow = append(slow, n.connectSlow("/ws/"+policy, "ada", "acme", nil))
			}
			quick, other := n.connect("/ws/"+policy, "alan", "acme"), n.connect("/ws/"+policy, "grace", "globex")
			behind := n.connectSlow("/ws/disconnect", "grace", "globex", nil)
			whole, foreign := newReading("acme", false), newReading("globex", false)
			events := newNumbers(t)
			for i := 0; n.dropped(reason) < slowOnes/2; i++ {
				if i == 20000 {
					t.Fatal("nothing gave way")
				}
				typ := fmt.Sprint("t", i%2)
				n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), typ, size))
				whole.until(t, quick, typ)
				n.hub.Deliver(events.event(mustGroup(t, "globex", "a"), typ, 0))
				foreign.until(t, other, typ)
				// What a browser is behind with first is not refused: it was taken before.
				if _, used := n.gateway.Books(); used > limit+2*slowOnes*size {
					t.Fatalf("budget: got %d bytes in use, want about %d", used, limit)
				}
			}
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "last", 0))
			n.hub.Deliver(events.event(mustGroup(t, "globex", "a"), "last", 0))
			whole.until(t, quick, "last")
			foreign.until(t, other, "last")
			if whole.missing != 0 || foreign.missing != 0 {
				t.Errorf("events missing for those that read: %d and %d", whole.missing, foreign.missing)
			}
			neighbor := newReading("globex", false)
			if neighbor.until(t, behind, "last"); neighbor.missing != 0 {
				t.Errorf("events missing for a slow one of another organization: %d", neighbor.missing)
			}
			var reads sync.WaitGroup
			for _, c := range slow {
				reads.Go(func() {
					if err := readUntil(c, newReading("acme", over == streams && policy == "drop_oldest"), "after"); err != nil {
						t.Error(err)
					}
				})
			}
			n.expectMetric(0, "orgcast_queue_bytes")
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "after", 0)) // to whoever is left
			reads.Wait()
			ended := n.dropped("too_slow") // with latest, too, where not even the newest found room
			n.expectConnections(slowOnes + 3 - ended)
			if policy == "drop_oldest" && ended > 0 {
				t.Errorf("connections ended: got %d, want 0", ended)
			}
			n.expectMetric(0, "orgcast_queue_bytes")
			if _, used := n.gateway.Books(); used != 0 {
				t.Errorf("budget in use: got %d bytes, want 0", used)
			}
		})
	}
}

// readUntil reads up to an event of the type or the end for being too slow.
func readUntil(c *testkit.Client, r *reading, typ string) error {
	for {
		text, err := c.Next()
		if closed, ok := errors.AsType[*testkit.ClosedError](err); ok && closed.Code == 4413 {
			return c.Close()
		}
		if err != nil {
			return err
		}
		if got, err := r.take(text); err != nil || got == typ {
			return err
		}
	}
}
