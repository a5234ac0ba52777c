package gateway

import (
	"context"
	"sync"
	"time"
)

const (
	// wheelTick is the precision of pings and of expiry.
	wheelTick = time.Second
	// wheelSlots spans more than the usual ping interval. For a later time, the wheel checks
	// earlier and again.
	wheelSlots = 64
)

// wheel runs the timers of all connections with one goroutine and one timer. A connection is in one
// slot at a time; when its turn comes, it says when to check it again.
type wheel struct {
	mu    sync.Mutex
	now   int // the slot whose turn comes next
	slots [wheelSlots][]*conn
}

// wheelPlace is a connection's place in the wheel, whose mu guards it.
type wheelPlace struct {
	slot, index int32
	standing    bool
	gone        bool // it must not be scheduled again
}

// schedule has the connection checked after this long, at the next tick, or earlier if that is
// further away than the wheel reaches.
func (w *wheel) schedule(c *conn, after time.Duration) {
	ticks := int((after + wheelTick - 1) / wheelTick)
	ticks = min(max(ticks, 1), wheelSlots-1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.place.gone {
		return
	}
	slot := (w.now + ticks - 1) % wheelSlots
	c.place = wheelPlace{slot: int32(slot), index: int32(len(w.slots[slot])), standing: true} //nolint:gosec // far less
	w.slots[slot] = append(w.slots[slot], c)
}

// remove takes a connection off the wheel for good, so that the wheel does not keep its memory.
func (w *wheel) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.place.standing {
		slot := w.slots[c.place.slot]
		last := len(slot) - 1
		slot[c.place.index] = slot[last]
		slot[c.place.index].place.index = c.place.index
		slot[last] = nil
		w.slots[c.place.slot] = slot[:last]
	}
	c.place = wheelPlace{gone: true}
}

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context, each func()) {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			each()
			for _, c := range w.turn() {
				if next := c.tick(now); next > 0 {
					w.schedule(c, next)
				}
			}
		}
	}
}

// turn removes and returns the connections of the slot whose turn it is.
func (w *wheel) turn() []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := w.slots[w.now]
	w.slots[w.now] = nil
	w.now = (w.now + 1) % wheelSlots
	for _, c := range due {
		c.place.standing = false
	}
	return due
}
