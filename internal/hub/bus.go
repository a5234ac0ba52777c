package hub

import (
	"context"

	"orgcast/internal/event"
)

// Bus brings events of other processes to this one. It is what the hub needs of package pubsub.
// It is safe for concurrent use.
type Bus interface {
	// Subscribe asks for the group's events and returns when they are sure to arrive, or when ctx
	// ends. Calls are counted: a group subscribed twice stays until it was unsubscribed twice. A
	// Subscribe that returned an error counts for nothing.
	Subscribe(ctx context.Context, g event.Group) error
	// Unsubscribe takes one Subscribe back. It does not wait.
	Unsubscribe(g event.Group)
}

// Member is one local listener of a group. Members are compared with ==.
type Member interface {
	// Offer hands over an event without ever blocking. What happens when the member has no room
	// for it is the member's own affair.
	Offer(e *event.Event)
	// OfferGap says that events of the group may have been lost at this point. It never blocks.
	OfferGap(g event.Group)
}
