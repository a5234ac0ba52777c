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

// Member is one local listener of a group. Members are compared with ==. No method may block.
type Member interface {
	// Offer hands over events of a group that the member has joined. It returns true if they
	// wait for a Flush. The member decides what happens when there is no room for them.
	Offer(b *event.Burst) (flush bool)
	// Flush sends what was offered, together with everything else that has come since.
	Flush()
	// OfferGap says that events of the group may have been lost at this point.
	OfferGap(g event.Group)
}
