package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// wheelTick is the precision of pings and of expiry.
	wheelTick = time.Second
	// wheelSlots spans more than the usual ping interval; a later time is looked at again halfway.
	wheelSlots = 64
)

// wheel looks after the timers of all connections with one goroutine and one timer. A connection
// stands in one slot at a time; at its turn it says when to look again.
type wheel struct {
	mu    sync.Mutex
	now   int // the slot whose turn comes next
	slots [wheelSlots][]*conn
}

// schedule lets the connection be looked at after this long, and a little later, so that
// connections that began together are not pinged together.
func (w *wheel) schedule(c *conn, after time.Duration) {
	ticks := int((after + wheelTick - 1) / wheelTick)
	if after > 10*wheelTick {
		ticks += rand.IntN(ticks/8 + 1) //nolint:gosec // jitter is no secret
	}
	ticks = min(max(ticks, 1), wheelSlots-1)
	w.mu.Lock()
	slot := &w.slots[(w.now+ticks-1)%wheelSlots]
	*slot = append(*slot, c)
	w.mu.Unlock()
}

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context) {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	var due []*conn
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			w.mu.Lock()
			due, w.slots[w.now] = w.slots[w.now], due[:0]
			w.now = (w.now + 1) % wheelSlots
			w.mu.Unlock()
			for i, c := range due {
				due[i] = nil
				if next := c.tick(now); next > 0 {
					w.schedule(c, next)
				}
			}
		}
	}
}
