package pubsub

import (
	"time"

	"orgcast/internal/event"
)

// hand gives the Sink what a group has missed, a gap before it if that is not everything, and what was
// held meanwhile. It ends early if the group is paused or left.
func (r *Redis) hand(l *link, sink Sink, b lagging, f answer) {
	s, p := b.sub, &b.sub.place
	r.mu.Lock()
	gap := f.err != nil || !f.complete || p.transient || b.mark.Position.IsZero() && len(f.events) == 0
	ok := b.current() && s.count > 0
	if ok {
		s.missed = false
		p.broken = gap && !f.complete
		s.meter.owe(time.Now(), r.tariff, f.events)
	}
	r.mu.Unlock()
	if ok && gap {
		r.gap(sink, s.group)
	}
	for _, e := range f.events {
		if !r.handOne(sink, b, e) {
			break
		}
	}
	for r.handHeld(l, sink, b) {
	}
}

// current reports whether the group still waits for this catching up. Redis.mu is held.
func (b lagging) current() bool { return b.sub.place.round == b.round }

// handOne gives the Sink one event of a history, unless the group does not wait for it any more. It asks
// in its turn to deliver: what another link brings after the group has moved there comes after this.
func (r *Redis) handOne(sink Sink, b lagging, e *event.Event) bool {
	s, p := b.sub, &b.sub.place
	r.delivery.Lock()
	defer r.delivery.Unlock()
	r.mu.Lock()
	if !b.current() || s.count == 0 {
		r.mu.Unlock()
		return false
	}
	s.advance(e.Position())
	p.passed = e.Position()
	v := s.show(event.Head{Position: e.Position(), Key: e.Key()})
	r.mu.Unlock()
	if v == verdictTake {
		r.metrics.caughtUp.Inc()
	}
	r.deliver(sink, s.group, e, v)
	return true
}

// deliver gives the Sink an event, a gap before it or in its place, or neither. e is nil if it was malformed.
// r.delivery is held.
func (r *Redis) deliver(sink Sink, g event.Group, e *event.Event, v verdict) {
	if v == verdictLost || v == verdictDenied {
		r.metrics.gaps.Inc()
		sink.Gap(g)
	}
	if v == verdictRepeated || v == verdictDenied {
		r.metrics.repeated.Inc()
	}
	if e != nil && (v == verdictTake || v == verdictLost) {
		r.metrics.received.Inc()
		sink.Deliver(e)
	}
}

// handHeld gives the Sink the first event that is held, and reports whether there may be another one. Like
// handOne it asks in its turn to deliver whether the group still waits for it.
func (r *Redis) handHeld(l *link, sink Sink, b lagging) (more bool) {
	s, p := b.sub, &b.sub.place
	r.mu.Lock()
	switch {
	case !b.current():
		r.mu.Unlock()
		return false
	case p.spilled && s.count > 0: // what was held and more is in the history
		s.missed = true
		s.startCatching(l)
		r.mu.Unlock()
		return false
	case len(p.held) == 0:
		p.catching = false
		r.mu.Unlock()
		return false
	}
	h := p.held[0]
	if p.knows(h.head) {
		p.takeHeld()
		r.mu.Unlock()
		return true
	}
	r.mu.Unlock()
	e, err := r.decoder.decode(s.group, h.head, h.object, h.received) // before its turn: others would wait for it

	r.delivery.Lock()
	defer r.delivery.Unlock()
	r.mu.Lock()
	if !b.current() {
		r.mu.Unlock()
		return false
	}
	v, wanted := verdictHeld, s.count > 0
	if !p.spilled {
		p.takeHeld() // still h: nobody else takes from it
		v = s.note(h.head)
	}
	r.mu.Unlock()
	if !wanted {
		return true
	}
	if err != nil {
		r.decoder.logDropped(s.group, err)
	}
	r.deliver(sink, s.group, e, v)
	return true
}

// owe charges the budget for events read from a history. r.mu is held.
func (m *meter) owe(now time.Time, t tariff, events []*event.Event) {
	for _, e := range events {
		if m.paid.Before(now) {
			m.paid = now
		}
		m.paid = m.paid.Add(t.cost(len(e.Payload())))
	}
}
