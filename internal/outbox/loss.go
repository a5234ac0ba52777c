package outbox

import "orgcast/internal/event"

// Loss says why a client does not get events.
type Loss uint8

// The losses.
const (
	LostOldest  Loss = iota // they were the oldest of too many
	LostLatest              // newer ones have superseded them
	LostFull                // there was no room, and its connection has to end
	LostClosing             // its connection is being closed
	LostLeft                // it left the group
	LostHistory             // it got them from the history
)

// loseEvents tells the owner of events of one group that the client does not get.
func (o *Outbox) loseEvents(events []*event.Event, why Loss) {
	if len(events) == 0 {
		return
	}
	o.owner.Lost(events, why, o.losing)
	o.losing = true
}

// lose tells the owner of the events of an item, if it has any.
func (o *Outbox) lose(it *Item, why Loss) {
	switch {
	case it.Burst == nil:
	case it.left == nil:
		o.loseEvents(it.Burst.Events(), why)
	default:
		for _, e := range it.left {
			if e != nil {
				o.loseEvents(e.Alone().Events(), why)
			}
		}
	}
}

// loseAll tells the owner of all events of a batch.
func (o *Outbox) loseAll(b *Batch, why Loss) {
	for i := range b.items { // front has no events
		o.lose(&b.items[i], why)
	}
}
