package former

import (
	"time"

	"orgcast/internal/event"
)

// maxHeld is how many bytes of a group are held while it catches up. What is beyond is read from
// the history, too.
const maxHeld = 1 << 20

// place is where a subscription stands in the history of its group.
//
// Before each SUBSCRIBE of a group whose place is not known, its history's newest position is read;
// from then on every recorded event that arrives moves the mark. When the group has missed events,
// which shows at the confirmation of its next SUBSCRIBE, catchUp reads the history from the mark
// on. What arrives meanwhile is held, and follows without what the history had.
type place struct {
	known bool       // mark is valid
	mark  event.Mark // the last recorded event handed over, or the newest when it was subscribed
	lost  bool       // what was missed cannot be known, because the mark was not
	// transient says that an event came that was not recorded: if some were missed, no history
	// tells.
	transient bool

	seen seen // the newest positions handed over, for when the mark is not in the history
	// broken says that a gap was told because the mark is not in the history: the next position may
	// lie before it.
	broken bool

	catching bool
	round    int // counts how often it began or ceased to catch up
	held     []holding
	bytes    int  // of held
	spilled  bool // held was too much and dropped: the history has to be read again
	// passed is the newest that was read, and handed how many were handed over since that began.
	// What was read comes on the channel, too, or has come.
	passed event.Position
	handed int
	// strange says that something came meanwhile that was not read.
	strange bool
}

// holding is an event that waits.
type holding struct {
	head     event.Head
	object   string
	received time.Time
}

// note moves the mark to an event that is handed over. It returns verdictKnown, verdictRepeated or
// verdictDenied if it was handed over before, and verdictLost if it lies before the mark: within
// one history positions only grow, so that one is gone, and its members have to be told.
func (s *subscription) note(h event.Head) verdict {
	p := &s.place
	if h.Position.IsZero() {
		p.transient = true
		return verdictTake
	}
	if p.knows(h) || s.meter.shown.has(&s.shown, h) {
		return verdictKnown
	}
	p.strange = true
	if v := s.show(h); v != verdictTake {
		return v // the mark stays: this position may be in no history
	}
	v := verdictTake
	if !p.broken && h.Position.Compare(p.mark.Position) < 0 {
		v = verdictLost
	}
	s.advance(h.Position)
	return v
}

// knows reports whether the group has this event from its history. Where there is no room to
// remember all that was read, their order has to do: they come one after the other until something
// else does.
func (p *place) knows(h event.Head) bool {
	if h.Position.IsZero() || h.Position.Compare(p.passed) > 0 {
		return false
	}
	return p.seen.has(h.Position) || !p.strange && p.handed > len(p.seen.ring)
}

// show remembers an event that is handed over. It returns verdictRepeated or verdictDenied if it
// was handed over before under another position.
func (s *subscription) show(h event.Head) verdict {
	before := s.meter.shown.repeats(&s.shown, h)
	switch {
	case before == nil:
		s.meter.shown.add(&s.shown, h, s.joined)
		return verdictTake
	case before.joined == s.joined:
		return verdictRepeated
	}
	before.joined = s.joined // all members know now
	return verdictDenied
}

// advance moves the mark.
func (s *subscription) advance(position event.Position) {
	s.place.mark, s.place.broken = event.Mark{Position: position}, false
	s.place.seen.add(position, s.meter)
	s.place.handed++
}

// take says what becomes of an event that is within the budget.
func (s *subscription) take(h event.Head, object string, now time.Time) verdict {
	p := &s.place
	switch {
	case !p.catching:
		return s.note(h)
	case p.spilled:
		p.transient = p.transient || h.Position.IsZero()
		return verdictHeld
	}
	p.held = append(p.held, holding{head: h, object: object, received: now})
	if p.bytes += len(object); p.bytes > maxHeld {
		for _, h := range p.held {
			p.transient = p.transient || h.head.Position.IsZero()
		}
		p.held, p.bytes, p.spilled = nil, 0, true
	}
	return verdictHeld
}

// takeHeld drops the first of those that are held.
func (p *place) takeHeld() {
	p.bytes -= len(p.held[0].object)
	p.held = p.held[1:]
}

// startCatching leaves the subscription to catchUp.
func (s *subscription) startCatching(l *link) {
	p := &s.place
	p.catching, p.spilled = true, false
	p.forgetRead()
	p.round++
	l.behind.push(lagging{sub: s, round: p.round})
	select {
	case l.fetch <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// stopCatching forgets what is held: the subscription ends, or will have to catch up again.
func (s *subscription) stopCatching() {
	p := &s.place
	for _, h := range p.held {
		p.transient = p.transient || h.head.Position.IsZero()
	}
	p.catching, p.held, p.bytes = false, nil, 0
	p.forgetRead()
	p.round++
}

// forgetRead makes nothing known.
func (p *place) forgetRead() { p.passed, p.handed, p.strange = event.Position{}, 0, false }
