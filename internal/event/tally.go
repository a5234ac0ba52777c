package event

import (
	"sync/atomic"
	"time"
)

// Tally counts what became of some events at the connections that they were offered to: each
// delivery of an event is in the end either written or lost. It takes 16 bytes and no lock, because
// every delivery adds to it. A nil Tally counts nothing. It is safe for concurrent use.
type Tally struct {
	written, lost atomic.Uint32
	slowest       atomic.Int64 // nanoseconds
}

// Wrote counts n events that were written to one connection. took is the time from the arrival of
// the first of them at this node to the write.
func (t *Tally) Wrote(n int, took time.Duration) {
	if t == nil {
		return
	}
	t.written.Add(uint32(n)) //nolint:gosec // a burst has fewer
	for before := t.slowest.Load(); int64(took) > before; before = t.slowest.Load() {
		if t.slowest.CompareAndSwap(before, int64(took)) {
			return
		}
	}
}

// Lost counts n events that one connection does not get.
func (t *Tally) Lost(n int) {
	if t != nil {
		t.lost.Add(uint32(n)) //nolint:gosec // a burst has fewer
	}
}

// Counts returns how many deliveries were written, how many were lost, and how long the slowest
// write took.
func (t *Tally) Counts() (written, lost uint32, slowest time.Duration) {
	return t.written.Load(), t.lost.Load(), time.Duration(t.slowest.Load())
}

// CountIn makes a tally count the deliveries of the event. It must be called before the event is
// offered to anyone.
func (e *Event) CountIn(t *Tally) { e.tally.Store(t) }

// Tally returns what counts the deliveries of the burst's events, nil if nothing does. Events that
// were offered together share one.
func (b *Burst) Tally() *Tally { return b.events[0].tally.Load() }
