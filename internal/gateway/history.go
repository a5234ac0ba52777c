package gateway

import (
	"context"
	"fmt"
	"slices"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// History reads what was recorded for a group. Package pubsub implements it.
type History interface {
	// History returns the newest n events of the group's history, oldest first, or fewer if they
	// are large.
	History(ctx context.Context, g event.Group, n int) ([]*event.Event, error)
}

// Resumer is an extra ability of a History: it knows what a browser has missed.
type Resumer interface {
	// Resume returns the events that were recorded after the mark, oldest first: at most the newest
	// limit events and bytes, but at least one. complete says that none is missing before them.
	Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error)
	// Mark returns the place after all events of the group that the hub has got so far. ok is false
	// if it is not known.
	Mark(g event.Group) (m event.Mark, ok bool)
}

// Pager is an extra ability of a History: it goes back page by page.
type Pager interface {
	// Before returns the events that were recorded before the position, oldest first: the newest
	// limit of them, or fewer if they exceed a number of bytes, but at least one. The zero Position
	// stands for the end of the history. more says that the history goes back further.
	Before(ctx context.Context, g event.Group, before event.Position, limit, bytes int) (events []*event.Event, more bool, err error)
}

// pageBytes is how many bytes of events a page of a history has at most, unless a single event is
// larger.
const pageBytes = 256 << 10

// resumeLimit is how many missed events of a group a browser gets at most: as many as a history
// keeps by default.
const resumeLimit = event.DefaultHistoryLength

// resumer returns the History's extra ability, nil if it has none.
func (h *host) resumer() Resumer {
	r, _ := h.options.History.(Resumer)
	return r
}

// JoinWithHistory implements consumer.Conn.
func (c *conn) JoinWithHistory(ctx context.Context, name string, n int, first func(history []*event.Event) error) error {
	return c.joinFrom(ctx, name, func(g event.Group) (newest event.Position, bytes int, err error) {
		var history []*event.Event
		if source := c.host.options.History; source != nil {
			if history, err = source.History(ctx, g, n); err != nil {
				return event.Position{}, 0, fmt.Errorf("%w: join group: %w", ErrOverloaded, err)
			}
		}
		err = first(history)
		if err == nil {
			c.trail.History(g, history, true)
		}
		return newestOf(history), bytesOf(history), err
	})
}

// Mark implements consumer.Resumer.
func (c *conn) Mark(name string) (m event.Mark, ok bool) {
	source := c.host.resumer()
	g, err := event.NewGroup(c.identity.Organization, name)
	if source == nil || err != nil {
		return event.Mark{}, false
	}
	return source.Mark(g)
}

// JoinAfter implements consumer.Resumer.
func (c *conn) JoinAfter(ctx context.Context, name string, after event.Mark, done func(at event.Mark) error) error {
	source := c.host.resumer()
	if source == nil || !c.kind.v1 {
		return consumer.ErrUnknownType
	}
	return c.joinFrom(ctx, name, func(g event.Group) (newest event.Position, bytes int, err error) {
		events, complete, err := source.Resume(ctx, g, after, resumeLimit, c.writer.box.Spare())
		if err != nil {
			return event.Position{}, 0, fmt.Errorf("%w: join group: %w", ErrOverloaded, err)
		}
		fitting := c.writer.box.Fitting(events)
		complete = complete && len(fitting) == len(events)
		var gap []byte
		if !complete {
			if gap, err = c.kind.frame(missedGap(g, after, fitting)); err != nil {
				return event.Position{}, bytesOf(events), err
			}
		}
		if err := c.writer.replay(g, gap, fitting); err != nil {
			return event.Position{}, bytesOf(events), err
		}
		c.trail.History(g, fitting, complete)
		at := event.Mark{Position: newestOf(fitting)}
		if at.Position.IsZero() && complete {
			at = after // it was found, so live events up to it are known, too
		}
		return at.Position, bytesOf(events), done(at)
	})
}

// PageBefore implements consumer.Pager.
func (c *conn) PageBefore(ctx context.Context, name string, before event.Position, limit int, done func(events []*event.Event, more bool) error) error {
	source, _ := c.host.options.History.(Pager)
	if source == nil || !c.kind.v1 {
		return consumer.ErrUnknownType
	}
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil || !c.groups.has(g) {
		return consumer.ErrNotFound
	}
	_, err = c.inTurn(ctx, func() (_ event.Position, bytes int, err error) {
		events, more, err := source.Before(ctx, g, before, limit, min(pageBytes, c.writer.box.Spare()))
		if err != nil {
			return event.Position{}, 0, fmt.Errorf("%w: read history: %w", ErrOverloaded, err)
		}
		fitting := c.writer.box.Fitting(events)
		if len(fitting) == 0 && len(events) > 0 {
			return event.Position{}, bytesOf(events), fmt.Errorf("%w: read history: no room", ErrOverloaded)
		}
		for _, e := range fitting {
			if err := c.admit(e.Alone()); err != nil {
				c.End(err)
				return event.Position{}, bytesOf(events), err
			}
		}
		if !c.groups.has(g) { // left meanwhile
			return event.Position{}, bytesOf(events), consumer.ErrNotFound
		}
		return event.Position{}, bytesOf(events), done(fitting, more || len(fitting) < len(events))
	})
	return err
}

// joinFrom joins a group and calls begin, which sends recorded events and returns the position of
// the last one. Live events follow, without those that begin has sent.
func (c *conn) joinFrom(ctx context.Context, name string, begin func(g event.Group) (newest event.Position, bytes int, err error)) error {
	if c.identity.Organization.IsZero() {
		return orgctx.ErrNoOrganization
	}
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil {
		return err
	}
	if err := c.writer.box.Hold(g); err != nil {
		return err
	}
	joined := false
	defer func() {
		if !joined { // also if begin panicked
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
	if err := c.writer.release(g, newest); err != nil {
		return err
	}
	return context.Cause(c.ctx)
}

// bytesOf returns the total size of events.
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

// gapFrame says that events of a group may have been lost.
type gapFrame struct {
	Type  string `json:"type"` // "gap"
	Group string `json:"group"`
	// After and Before are the positions around the gap, as far as they are known.
	After  string `json:"after,omitempty"`
	Before string `json:"before,omitempty"`
}

// missedGap makes the frame for the gap between the mark and the remaining events.
func missedGap(g event.Group, after event.Mark, left []*event.Event) gapFrame {
	frame := gapFrame{Type: "gap", Group: g.Name(), After: after.String()}
	if len(left) > 0 {
		frame.Before = left[0].Position().String()
	}
	return frame
}
