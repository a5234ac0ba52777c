// Package pubsubtest contains the contract of a bus as a test, and a Sink that records its calls.
package pubsubtest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

// Patience is how long a test waits for something that must happen. It only decides how late a
// failing test fails.
const Patience = testkit.Patience

// Item is one call of a Sink.
type Item struct {
	Group   event.Group
	Payload string // empty for a gap
	// Position is zero for a transient event.
	Position event.Position
}

// Gap is the Item of a gap of the group.
func Gap(g event.Group) Item { return Item{Group: g} }

// Recorder is a Sink that records its calls. The zero Recorder is ready to use.
type Recorder struct {
	mu      sync.Mutex
	items   []Item
	changed chan struct{} // closed at the next call, nil if no one waits
}

// Deliver implements the Sink.
func (r *Recorder) Deliver(e *event.Event) {
	r.add(itemOf(e))
}

func itemOf(e *event.Event) Item {
	return Item{Group: e.Group(), Payload: string(e.Payload()), Position: e.Position()}
}

// Gap implements the Sink.
func (r *Recorder) Gap(g event.Group) { r.add(Gap(g)) }

func (r *Recorder) add(i Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items = append(r.items, i)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Items returns the calls so far.
func (r *Recorder) Items() []Item {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.items)
}

// Of returns the calls so far for one group, including gaps.
func (r *Recorder) Of(g event.Group) []Item {
	return slices.DeleteFunc(r.Items(), func(i Item) bool { return i.Group != g })
}

// WaitFor waits until the item has come, and fails the test if it does not come.
func (r *Recorder) WaitFor(tb testing.TB, want Item) {
	tb.Helper()
	deadline := time.After(Patience)
	for {
		r.mu.Lock()
		found := slices.Contains(r.items, want)
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			tb.Fatalf("item %v did not come; got %v", want, r.Items())
		}
	}
}
