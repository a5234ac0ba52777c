package gateway

import (
	"context"
	"fmt"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
)

// Resumer is an extra ability of a History: it knows what a browser has missed.
type Resumer interface {
	// Resume returns what was recorded after the mark, oldest first, at most the newest limit events
	// and so many bytes of them, but one always.
	// complete says that nothing is missing before them.
	Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error)
	// Mark returns the place behind all events of the group that were handed to the hub so far. ok is
	// false if it is not known.
	Mark(g event.Group) (m event.Mark, ok bool)
}

// resumeLimit is how many missed events of a group a browser gets: as many as a history of the default
// length keeps.
const resumeLimit = event.DefaultHistoryLength

// resumer returns the History's extra ability, nil if it has none.
func (s *Server) resumer() Resumer {
	r, _ := s.options.History.(Resumer)
	return r
}

// Mark implements consumer.Resumer.
func (c *conn) Mark(name string) (m event.Mark, ok bool) {
	source := c.server.resumer()
	g, err := event.NewGroup(c.identity.Organization, name)
	if source == nil || err != nil {
		return event.Mark{}, false
	}
	return source.Mark(g)
}

// JoinAfter implements consumer.Resumer.
func (c *conn) JoinAfter(ctx context.Context, name string, after event.Mark, done func(at event.Mark) error) error {
	source := c.server.resumer()
	if source == nil || c.protocol != consumer.ProtocolV1 {
		return consumer.ErrUnknownType
	}
	return c.joinFrom(ctx, name, func(g event.Group) (newest event.Position, bytes int, err error) {
		events, complete, err := source.Resume(ctx, g, after, resumeLimit, max(c.roomForMissed(), 0))
		if err != nil {
			return event.Position{}, 0, fmt.Errorf("%w: join group: %w", ErrOverloaded, err)
		}
		fitting := c.fitting(events)
		complete = complete && len(fitting) == len(events)
		if err := c.sendMissed(g, after, fitting, complete); err != nil {
			return event.Position{}, bytesOf(events), err
		}
		at := event.Mark{Position: newestOf(fitting)}
		if at.Position.IsZero() && complete {
			at = after // which was found, so live events up to it are known too
		}
		return at.Position, bytesOf(events), done(at)
	})
}

// fitting returns the newest of the events for which there is room: half of the queue, so that the
// browser is not ended for what it has asked for, and asks for again.
func (c *conn) fitting(events []*event.Event) []*event.Event {
	room := c.roomForMissed()
	first := len(events)
	for first > 0 {
		if room -= c.sizeOf(events[first-1]); room < 0 {
			break
		}
		first--
	}
	return events[first:]
}

// roomForMissed is how many bytes of missed events the connection has room for.
func (c *conn) roomForMissed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server.options.QueueBytes/2 - c.queued
}

// sizeOf returns what an event counts for in the queue.
func (c *conn) sizeOf(e *event.Event) int {
	it := item{burst: c.shape(e.Alone())}
	return it.size()
}

// sendMissed queues events past those that are held, behind a gap if they are not all.
func (c *conn) sendMissed(g event.Group, after event.Mark, events []*event.Event, complete bool) error {
	var items []item
	if !complete {
		frame := gapFrame{Type: "gap", Group: g.Name(), After: after.String()}
		if len(events) > 0 {
			frame.Before = events[0].Position().String()
		}
		text, err := event.Encode(frame)
		if err != nil {
			return err
		}
		items = append(items, item{frame: text, gap: g})
	}
	for len(events) > 0 {
		var b *event.Burst
		b, events = event.NewBurst(events, joinLimit)
		items = append(items, item{burst: c.shape(b)})
	}
	ok := true
	c.mu.Lock()
	for _, it := range items {
		if ok = ok && !c.ended && c.add(it); !ok {
			break
		}
	}
	ended := c.ended
	c.mu.Unlock()
	switch {
	case ended:
		return context.Cause(c.ctx)
	case !ok:
		c.tooSlow()
		return ErrTooSlow
	}
	c.Flush()
	return nil
}
