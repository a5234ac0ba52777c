package pubsub

import (
	"sync"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
)

// delivery hands events and gaps to the Sink of a Run, one after the other, whichever link brings
// them.
type delivery struct {
	sink    Sink
	metrics *metrics

	mu sync.Mutex // held during calls of the Sink, which must not overlap
}

// deliver hands over an event that is live.
func (d *delivery) deliver(e *event.Event) {
	d.metrics.received.Inc()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.Deliver(e)
}

// gap tells of a gap.
func (d *delivery) gap(g event.Group) {
	d.metrics.gaps.Inc()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.Gap(g)
}

// inTurn asks what becomes of an event when its turn to be handed over has come, and does it: what
// another link brings, after the group has moved there, comes after this. e is nil if the event was
// malformed.
func (d *delivery) inTurn(g event.Group, e *event.Event, judge func() roster.Verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := judge()
	if v == roster.Lost || v == roster.Denied {
		d.metrics.gaps.Inc()
		d.sink.Gap(g)
	}
	if v == roster.Repeated || v == roster.Denied {
		d.metrics.repeated.Inc()
	}
	if e != nil && (v == roster.Deliver || v == roster.Lost) {
		d.metrics.received.Inc()
		d.sink.Deliver(e)
	}
}
