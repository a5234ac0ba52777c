package hub

import (
	"context"

	"orgcast/internal/event"
	"orgcast/internal/trail"
)

// Bus brings events of other processes to this one. It is the part of package pubsub that the hub
// needs. It is safe for concurrent use.
type Bus interface {
	// Subscribe asks for the group's events. It returns when they are certain to arrive, or when
	// ctx ends. Calls are counted: a group subscribed twice must be unsubscribed twice. A Subscribe
	// that returned an error does not count.
	Subscribe(ctx context.Context, g event.Group) error
	// Unsubscribe undoes one Subscribe. It does not wait.
	Unsubscribe(g event.Group)
}

// Member is one local listener of a group. Members are compared with ==. Its methods must not
// block.
type Member interface {
	// Offer passes events of a group that the member has joined. It returns true if they wait for a
	// Flush. The member decides what happens if it has no room for them.
	Offer(b *event.Burst) (flush bool)
	// Flush sends what was offered, and everything that has come since.
	Flush()
	// OfferGap says that events of the group may have been lost at this point.
	OfferGap(g event.Group)
}

// Remembered is an extra ability of a [Member]: a trail remembers of which groups it is a member.
type Remembered interface {
	Trail() *trail.Connection
}

// trailOf returns what remembers the groups of a member, nil if nothing does.
func trailOf(m Member) *trail.Connection {
	if r, ok := m.(Remembered); ok {
		return r.Trail()
	}
	return nil
}
