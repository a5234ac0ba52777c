package hub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// writing is a member whose writes take time, which stands for those of many members.
type writing struct {
	takes   time.Duration
	events  int
	writes  int
	longest time.Duration // that an event has waited for its write to begin
}

func (w *writing) Offer(b *event.Burst) bool {
	w.events += len(b.Events())
	w.longest = max(w.longest, time.Since(b.Events()[0].Received()))
	return true
}

func (w *writing) Flush() {
	w.writes++
	time.Sleep(w.takes)
}

func (*writing) OfferGap(event.Group) {}

// publishTo delivers events to a crowd of which one member takes 4 ms for a write.
func publishTo(t *testing.T, events int, every time.Duration) *writing {
	t.Helper()
	h := hub.New(newBus(), hub.Options{})
	g := testkit.Group(t, "acme", "all")
	w := &writing{takes: 4 * time.Millisecond}
	if err := h.Join(t.Context(), g, w); err != nil {
		t.Fatal(err)
	}
	for range 40 { // a crowd, so that the receiver does not serve it itself
		if err := h.Join(t.Context(), g, newMember(g.Organization())); err != nil {
			t.Fatal(err)
		}
	}
	for n := range events {
		h.Deliver(numbered(g, n))
		time.Sleep(every)
	}
	h.Wait()
	if w.events != events {
		t.Errorf("got %d events, want %d", w.events, events)
	}
	return w
}

// TestEventsGatherUnderLoad: when events come faster than they can be written, they gather for a
// while, so that there are fewer writes.
func TestEventsGatherUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := publishTo(t, 600, time.Millisecond)
		// One write in 4 ms for the writes and 2 ms of pause.
		if w.writes < 95 || w.writes > 105 {
			t.Errorf("got %d writes for %d events, want some 100", w.writes, w.events)
		}
		if w.longest > 6*time.Millisecond {
			t.Errorf("an event waited for %v, want 6ms at most", w.longest)
		}
	})
}

// TestNoPauseWithoutLoad: events that come more slowly than they can be written are written at once.
func TestNoPauseWithoutLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if w := publishTo(t, 100, 5*time.Millisecond); w.writes != w.events || w.longest > 0 {
			t.Errorf("got %d writes for %d events, one of which waited for %v; want one each, at once", w.writes, w.events, w.longest)
		}
	})
}
