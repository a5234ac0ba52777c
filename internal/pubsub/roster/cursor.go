package roster

import (
	"time"

	"orgcast/internal/event"
)

// maxHeld is how many bytes of a group's messages are held while it catches up. Further messages
// are read from the history too.
const maxHeld = 1 << 20

// cursor is the place of a subscription in the history of its group.
//
// Before each SUBSCRIBE of a group whose mark is unknown, the newest position of its history is
// read. From then on, every recorded event that arrives moves the mark, or sets it if it could not be
// read. If the group missed events, that shows when its next SUBSCRIBE is confirmed, and its history
// is read from the mark on. Messages that arrive meanwhile are held. They follow afterwards, except
// those that the history had.
type cursor struct {
	known bool       // mark is valid
	mark  event.Mark // of the last recorded event delivered, or of the newest at SUBSCRIBE
	lost  bool       // the missed events cannot be found, because the mark was unknown
	// transient says that events arrived that are not recorded. If one of them was missed, no
	// history has it.
	transient bool

	seen seen // the newest positions delivered, for when the mark is not in the history
	// broken says that a gap was reported because the mark is not in the history. The next position
	// may be below the mark.
	broken bool

	catching bool
	round    int // counts how often catching up began or ended
	held     []Held
	bytes    int  // of held
	spilled  bool // too much was held, so it was dropped, and the history must be read again
	// passed is the newest position read in this round, and handed is how many events were
	// delivered in it. Events that were read also come on the channel, or came already.
	passed event.Position
	handed int
	// strange says that an event came on the channel in this round that was not read.
	strange bool
}

// Held is a message that waits while its group catches up.
type Held struct {
	Head     event.Head
	Object   string
	Received time.Time
}

// carried notes a message that is not delivered.
func (c *cursor) carried(h event.Head) { c.transient = c.transient || h.Position.IsZero() }

// note moves the mark to an event that is to be delivered. It returns Known, Repeated or Denied if
// the event was delivered before. It returns Lost if the event's position is below the mark:
// positions in one history only grow, so the history was lost, and members must be told.
func (s *subscription) note(h event.Head) Verdict {
	c := &s.cursor
	if h.Position.IsZero() {
		c.transient = true
		return Deliver
	}
	if c.knows(h) || s.budget.shown.has(&s.shown, h) {
		return Known
	}
	c.strange = true
	if v := s.show(h); v != Deliver {
		return v // the mark stays, because this position may not be in any history
	}
	v := Deliver
	if !c.broken && h.Position.Compare(c.mark.Position) < 0 {
		v = Lost
	}
	s.advance(h.Position)
	return v
}

// knows reports whether the group already got this event from its history. If there was no room to
// remember all positions read, order decides: events count as known until one comes that was not
// read.
func (c *cursor) knows(h event.Head) bool {
	if h.Position.IsZero() || h.Position.Compare(c.passed) > 0 {
		return false
	}
	return c.seen.has(h.Position) || !c.strange && c.handed > len(c.seen.ring)
}

// show remembers an event that is to be delivered. It returns Repeated or Denied if the event was
// delivered before under another position.
func (s *subscription) show(h event.Head) Verdict {
	before := s.budget.shown.repeats(&s.shown, h)
	switch {
	case before == nil:
		s.budget.shown.add(&s.shown, h, s.joined)
		return Deliver
	case before.joined == s.joined:
		return Repeated
	}
	before.joined = s.joined // the gap tells all members
	return Denied
}

// advance moves the mark to a position and remembers it. If the mark was unknown, it is known now.
func (s *subscription) advance(position event.Position) {
	s.cursor.mark, s.cursor.known, s.cursor.broken = event.Mark{Position: position}, true, false
	s.cursor.seen.add(position, s.budget)
	s.cursor.handed++
}

// judge decides what happens to an event within the budget.
func (s *subscription) judge(h event.Head, object string, now time.Time) Verdict {
	c := &s.cursor
	switch {
	case !c.catching:
		return s.note(h)
	case c.spilled:
		c.carried(h)
		return Hold
	}
	c.held = append(c.held, Held{Head: h, Object: object, Received: now})
	if c.bytes += len(object); c.bytes > maxHeld {
		for _, h := range c.held {
			c.carried(h.Head)
		}
		c.held, c.bytes, c.spilled = nil, 0, true
	}
	return Hold
}

// dropFirst removes the first held event.
func (c *cursor) dropFirst() {
	c.bytes -= len(c.held[0].Object)
	c.held[0] = Held{} // the array stays in use, so free its text
	c.held = c.held[1:]
}

// startCatching queues the subscription to read its history.
func (s *subscription) startCatching(l *Link) {
	c := &s.cursor
	c.catching, c.spilled = true, false
	c.forgetRead()
	c.round++
	l.behind.push(Behind{sub: s, link: l, round: c.round})
}

// stopCatching drops held messages, because the subscription ends or has to catch up again.
func (s *subscription) stopCatching() {
	c := &s.cursor
	for _, h := range c.held {
		c.carried(h.Head)
	}
	c.catching, c.held, c.bytes = false, nil, 0
	c.forgetRead()
	c.round++
}

// forgetRead forgets what was read, so that knows reports false.
func (c *cursor) forgetRead() { c.passed, c.handed, c.strange = event.Position{}, 0, false }
