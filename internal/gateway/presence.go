package gateway

import (
	"encoding/json"
	"errors"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/presence"
	"orgcast/internal/socket"
)

// Presence knows which users are in which group. [presence.Room] implements it.
type Presence interface {
	Attend(g event.Group, user string, m presence.Member, watch bool) error
	Leave(g event.Group, m presence.Member, how presence.Departure)
	Set(g event.Group, m presence.Member, state json.RawMessage) error
}

var (
	_ consumer.Attendee = (*conn)(nil)
	_ presence.Member   = (*conn)(nil)
)

// Attend implements consumer.Attendee.
func (c *conn) Attend(name string, watch bool) error {
	room := c.host.options.Presence
	if room == nil || watch && !c.kind.v1 {
		return consumer.ErrUnknownType
	}
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil || !c.groups.has(g) {
		return consumer.ErrNotFound
	}
	if err := room.Attend(g, c.identity.UserID, c, watch); err != nil {
		return errors.Join(ErrOverloaded, err)
	}
	if !c.groups.has(g) { // left meanwhile
		room.Leave(g, c, presence.Closed)
	}
	return nil
}

// SetPresence implements consumer.Attendee.
func (c *conn) SetPresence(name string, state json.RawMessage) error {
	room := c.host.options.Presence
	if room == nil {
		return consumer.ErrUnknownType
	}
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil {
		return consumer.ErrNotFound
	}
	switch err := room.Set(g, c, state); {
	case errors.Is(err, presence.ErrState):
		return errors.Join(event.ErrBadFields, err)
	case errors.Is(err, presence.ErrAbsent):
		return consumer.ErrNotFound
	case err != nil:
		return errors.Join(ErrOverloaded, err)
	}
	return nil
}

// Show implements presence.Member.
func (c *conn) Show(f *presence.Frame) {
	if err := c.admits(f.Group().Organization(), f.Group()); err != nil {
		c.End(err)
		return
	}
	if c.groups.has(f.Group()) { // else it has left meanwhile
		c.writer.send(f.Encoded(c.kind.carrier, c.kind.carrier.Frame))
	}
}

// depart ends the presence in groups that the connection leaves.
func (c *conn) depart(how presence.Departure, groups ...event.Group) {
	if room := c.host.options.Presence; room != nil {
		for _, g := range groups {
			room.Leave(g, c, how)
		}
	}
}

// departureOf returns how users leave their groups if a connection ends with a cause.
func departureOf(cause error) presence.Departure {
	if closed, ok := errors.AsType[peerClosedError](cause); ok {
		// close() of a page sends one of these; a browser that reloads the page sends 1001.
		if closed.code == socket.StatusNormalClosure || closed.code == socket.StatusNoStatusRcvd {
			return presence.Closed
		}
		return presence.Lost
	}
	if causeOf(cause).how.is(final) {
		return presence.Ended
	}
	return presence.Lost
}

// admits is the last check of a frame about a group, as admit is that of events.
func (c *client) admits(org orgctx.ID, g event.Group) error {
	if org == c.identity.Organization && !org.IsZero() {
		return nil
	}
	return c.violation(org, g)
}
