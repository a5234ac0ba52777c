package pubsub

import (
	"sync"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/tracing"
	"orgcast/internal/trail"
)

// delivery passes events and gaps to the Sink of a Run, one at a time, from all links.
type delivery struct {
	sink    Sink
	metrics *metrics
	trail   *trail.Trail
	tracer  *tracing.Tracer

	mu sync.Mutex // held during calls of the Sink, which must not overlap
}

// deliver passes on a live event.
func (d *delivery) deliver(e *event.Event) {
	d.metrics.received.Inc()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.Deliver(e)
}

// gap reports a gap, for one of the reasons in package trail.
func (d *delivery) gap(g event.Group, reason string) {
	d.metrics.gaps.Inc()
	d.trail.Gap(g, reason)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.Gap(g)
}

// inTurn asks what happens to an event when it is the event's turn for delivery, and does that. If
// the group has moved meanwhile, events of the new link come after this one. e is nil if the event
// was malformed.
func (d *delivery) inTurn(g event.Group, e *event.Event, judge func() roster.Verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := judge()
	if v == roster.Lost || v == roster.Denied {
		d.metrics.gaps.Inc()
		d.trail.Gap(g, gapReason(v))
		d.sink.Gap(g)
	}
	if v == roster.Repeated || v == roster.Denied {
		d.metrics.repeated.Inc()
		if e != nil {
			d.trail.Dropped(g, e.Position(), trail.DropRepeated)
		}
	}
	switch {
	case e == nil:
	case v == roster.Deliver || v == roster.Lost:
		d.metrics.received.Inc()
		d.sink.Deliver(e)
	default:
		e.Dropped(dropNotDue)
	}
}

// dropNotDue is why an event of a group that catches up is not delivered.
const dropNotDue = "not_due"

// gapReason returns why a verdict on an event comes with a gap.
func gapReason(v roster.Verdict) string {
	if v == roster.Denied {
		return trail.GapRepeated
	}
	return trail.GapHistoryLost
}
