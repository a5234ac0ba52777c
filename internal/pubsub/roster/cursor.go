package roster

import (
	"time"

	"orgcast/internal/event"
)

// maxHeld is how many bytes of a group are held while it catches up. What is beyond is read from
// the history, too.
const maxHeld = 1 << 20

// cursor is where a subscription stands in the history of its group.
//
// Before each SUBSCRIBE of a group whose cursor is not known, its history's newest position is
// read; from then on every recorded event that arrives moves the mark. When the group has missed
// events, which shows at the confirmation of its next SUBSCRIBE, the history is read from the mark
// on. What arrives meanwhile is held, and follows without what the history had.
type cursor struct {
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
	held     []Held
	bytes    int  // of held
	spilled  bool // held was too much and dropped: the history has to be read again
	// passed is the newest that was read, and handed how many were handed over since that began.
	// What was read comes on the channel, too, or has come.
	passed event.Position
	handed int
	// strange says that something came meanwhile that was not read.
	strange bool
}

// Held is an event that waits while its group catches up.
type Held struct {
	Head     event.Head
	Object   string
	Received time.Time
}

// carried takes note of an event that is not handed over.
func (c *cursor) carried(h event.Head) { c.transient = c.transient || h.Position.IsZero() }

// note moves the mark to an event that is handed over. It returns Known, Repeated or
// Denied if it was handed over before, and Lost if it lies before the mark: within one history
// positions only grow, so that one is gone, and its members have to be told.
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
		return v // the mark stays: this position may be in no history
	}
	v := Deliver
	if !c.broken && h.Position.Compare(c.mark.Position) < 0 {
		v = Lost
	}
	s.advance(h.Position)
	return v
}

// knows reports whether the group has this event from its history. Where there is no room to
// remember all that was read, their order has to do: they come one after the other until something
// else does.
func (c *cursor) knows(h event.Head) bool {
	if h.Position.IsZero() || h.Position.Compare(c.passed) > 0 {
		return false
	}
	return c.seen.has(h.Position) || !c.strange && c.handed > len(c.seen.ring)
}

// show remembers an event that is handed over. It returns Repeated or Denied if it was handed
// over before under another position.
func (s *subscription) show(h event.Head) Verdict {
	before := s.budget.shown.repeats(&s.shown, h)
	switch {
	case before == nil:
		s.budget.shown.add(&s.shown, h, s.joined)
		return Deliver
	case before.joined == s.joined:
		return Repeated
	}
	before.joined = s.joined // all members know now
	return Denied
}

// advance moves the mark.
func (s *subscription) advance(position event.Position) {
	s.cursor.mark, s.cursor.broken = event.Mark{Position: position}, false
	s.cursor.seen.add(position, s.budget)
	s.cursor.handed++
}

// judge says what becomes of an event that is within the budget.
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

// dropFirst drops the first of those that are held.
func (c *cursor) dropFirst() {
	c.bytes -= len(c.held[0].Object)
	c.held[0] = Held{} // the rest of the list keeps its memory
	c.held = c.held[1:]
}

// startCatching has the link's histories read for the subscription.
func (s *subscription) startCatching(l *Link) {
	c := &s.cursor
	c.catching, c.spilled = true, false
	c.forgetRead()
	c.round++
	l.behind.push(Behind{sub: s, link: l, round: c.round})
}

// stopCatching forgets what is held: the subscription ends, or will have to catch up again.
func (s *subscription) stopCatching() {
	c := &s.cursor
	for _, h := range c.held {
		c.carried(h.Head)
	}
	c.catching, c.held, c.bytes = false, nil, 0
	c.forgetRead()
	c.round++
}

// forgetRead makes nothing known.
func (c *cursor) forgetRead() { c.passed, c.handed, c.strange = event.Position{}, 0, false }
