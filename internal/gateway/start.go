package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// History reads what was recorded for a group. Package pubsub implements it.
type History interface {
	// History returns the newest n events of the group's history, oldest first, or fewer if they are
	// large.
	History(ctx context.Context, g event.Group, n int) ([]*event.Event, error)
}

// releasedAtOnce is how many held items are queued before fan-out has a chance to look in.
const releasedAtOnce = 256

// errStarting is returned where one connection asks for a group's history twice at a time.
var errStarting = errors.New("gateway: the history of this group is being read for this connection")

// start is where live events of a group begin for a connection that was given its history. The
// group's events are held from before the history is read until the consumer has sent what it
// makes of it. They then follow, without those that the history had. Since the history can be
// ahead of the events on their way here, it takes until one behind it comes to be sure that all
// others have passed.
type start struct {
	group   event.Group
	after   event.Position // the newest of the history
	holding bool
	held    batch // in the books of the connection and the organization
	// What had to be dropped of held: whether there were transient events, and the newest recorded one.
	lost      bool
	lostAfter event.Position
}

// JoinWithHistory implements consumer.Conn.
func (c *conn) JoinWithHistory(ctx context.Context, name string, n int, first func(history []*event.Event) error) error {
	return c.joinFrom(ctx, name, func(g event.Group) (newest event.Position, bytes int, err error) {
		var history []*event.Event
		if source := c.server.options.History; source != nil {
			if history, err = source.History(ctx, g, n); err != nil {
				return event.Position{}, 0, fmt.Errorf("%w: join group: %w", ErrOverloaded, err)
			}
		}
		return newestOf(history), bytesOf(history), first(history)
	})
}

// bytesOf returns how large events are together.
func bytesOf(events []*event.Event) (bytes int) {
	for _, e := range events {
		bytes += len(e.Payload())
	}
	return bytes
}

// newestOf returns the newest position of events that are in order, zero if there is none.
func newestOf(events []*event.Event) event.Position {
	for _, e := range slices.Backward(events) {
		if !e.Position().IsZero() {
			return e.Position()
		}
	}
	return event.Position{}
}

// joinFrom joins a group and calls begin, which sends what was recorded and returns the position up to
// which it did. Live events follow, without what begin has sent.
func (c *conn) joinFrom(ctx context.Context, name string, begin func(g event.Group) (newest event.Position, bytes int, err error)) error {
	if c.identity.Organization.IsZero() {
		return orgctx.ErrNoOrganization
	}
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil {
		return err
	}
	if err := c.hold(g); err != nil {
		return err
	}
	joined := false
	defer func() {
		if !joined { // also if first panicked
			c.Leave(name)
		}
	}()
	if err := c.Join(ctx, name); err != nil {
		return err
	}
	newest, err := c.inTurn(ctx, func() (event.Position, int, error) { return begin(g) })
	if err != nil {
		return err
	}
	joined = true
	return c.release(g, newest)
}

// hold begins to hold the events of a group.
func (c *conn) hold(g event.Group) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.startOf(g)
	switch {
	case c.ended:
		return context.Cause(c.ctx)
	case s == nil:
		s = &start{group: g}
		c.starts = append(c.starts, s)
	case s.holding:
		return errStarting
	}
	s.holding = true
	return nil
}

// startOf returns the start of a group, if it has one. Its caller holds mu.
func (c *conn) startOf(g event.Group) *start {
	for _, s := range c.starts {
		if s.group == g {
			return s
		}
	}
	return nil
}

// endStart lets a group be as any other, and forgets what is held for it. Its caller holds mu.
func (c *conn) endStart(g event.Group) {
	c.starts = slices.DeleteFunc(c.starts, func(s *start) bool {
		if s.group != g {
			return false
		}
		c.count(-s.held.bytes)
		return true
	})
}

// count enters held bytes in the books. Its caller holds mu.
func (c *conn) count(bytes int) {
	c.held += bytes
	c.queued += bytes
	c.budget.used.Add(int64(bytes))
}

// release lets what is held follow what the consumer has sent.
func (c *conn) release(g event.Group, newest event.Position) error {
	c.mu.Lock()
	s := c.startOf(g)
	if s == nil || !s.holding || c.ended { // left, or ended
		c.mu.Unlock()
		return context.Cause(c.ctx)
	}
	if newest.Compare(s.after) > 0 {
		s.after = newest
	}
	ok := true
	for n := 1; ok; n++ {
		if s.lost || s.lostAfter.Compare(s.after) > 0 { // also while others had their chance
			if tells, known := c.gap(g); known {
				ok = c.add(tells)
			}
		}
		s.lost, s.lostAfter = false, event.Position{}
		if len(s.held.items) == 0 || !ok {
			break
		}
		it := s.held.takeFirst()
		c.count(-it.size())
		c.whole(&it)
		if it = c.pass(s, it); it.size() > 0 {
			ok = c.add(it)
		}
		if n%releasedAtOnce > 0 {
			continue
		}
		c.mu.Unlock() // fan-out may be waiting for it; what it brings is held behind the rest
		c.mu.Lock()
		if c.ended || c.startOf(g) != s {
			c.mu.Unlock()
			return context.Cause(c.ctx)
		}
	}
	c.count(-s.held.bytes)
	s.held, s.holding = batch{}, false
	if s.after.IsZero() { // nothing was recorded, so nothing can come twice
		c.endStart(g)
	}
	flush := ok && c.queue != nil && !c.writing
	c.mu.Unlock()
	if !ok {
		c.tooSlow()
		return ErrTooSlow
	}
	if flush {
		c.Flush()
	}
	return nil
}

// begin takes an item of a group that has a start: it holds it, or takes from it what the history
// had. It returns what is left to queue, and false if there is no room for what is held.
// Its caller holds mu.
func (c *conn) begin(it item) (left item, ok bool) {
	g := it.gap
	if it.burst != nil {
		g = it.burst.Group()
	}
	s := c.startOf(g)
	switch {
	case s == nil:
		return it, true
	case !s.holding:
		left = c.pass(s, it)
		if it.burst != nil && left.burst != nil { // they come in order, so the rest lies behind too
			for _, e := range it.burst.Events() {
				if e.Position().Compare(s.after) > 0 {
					c.endStart(g)
					break
				}
			}
		}
		return left, true
	}
	c.append(&s.held, it)
	c.count(it.size())
	return item{}, c.fits(s)
}

// pass takes from an item the events that the history had.
func (c *conn) pass(s *start, it item) item {
	if it.burst == nil || s.after.IsZero() {
		return it
	}
	events := it.burst.Events()
	had := func(e *event.Event) bool { return !e.Position().IsZero() && e.Position().Compare(s.after) <= 0 }
	if !slices.ContainsFunc(events, had) {
		return it
	}
	rest := slices.DeleteFunc(slices.Clone(events), had)
	if len(rest) == 0 {
		return item{}
	}
	size := len(it.burst.Frames())
	b, _ := event.NewBurst(rest, size) // all of them: together they are smaller
	return item{burst: c.shape(b)}
}

// fits makes room for what is held, as the route's policy says: it may be as much as the queue, which
// will take it. It returns false if the connection has to end instead. Its caller holds mu.
func (c *conn) fits(s *start) bool {
	switch c.route.WhenFull {
	case consumer.DropOldest:
		for c.excess() > 0 && len(s.held.items) > 0 {
			it := s.held.takeFirst()
			if it.burst != nil {
				c.lose(s, it.burst.Events())
			}
			c.count(-it.size())
		}
		return true
	case consumer.Latest:
		before := s.held.bytes
		c.dropStale(&s.held, c.excess())
		c.count(s.held.bytes - before)
	case consumer.Disconnect:
	}
	return c.excess() <= 0
}

// excess returns by how much what waits and is held is too much. Its caller holds mu.
func (c *conn) excess() int {
	o := &c.server.options
	waiting := c.queued
	if c.route.WhenFull != consumer.Disconnect { // what is being written does not count, as in full
		waiting = c.held
		if c.queue != nil {
			waiting += c.queue.bytes
		}
	}
	return max(waiting-o.QueueBytes, int(c.budget.used.Load())-o.QueueBytesPerOrganization)
}

// lose notes events that were held and dropped. What the history has of them is not lost after all.
// Its caller holds mu.
func (c *conn) lose(s *start, events []*event.Event) {
	c.dropped(dropOldest, len(events))
	for _, e := range events {
		s.lost = s.lost || e.Position().IsZero()
		if e.Position().Compare(s.lostAfter) > 0 {
			s.lostAfter = e.Position()
		}
	}
}
