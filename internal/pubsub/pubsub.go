// Package pubsub carries events between processes: [Redis] through Redis, and [Memory] within one
// process. Both implement the hub's Bus and one contract, which package pubsubtest tests.
//
// # Names
//
// A group's events travel on one channel, prefix:{ORG}:group:NAME, which package keyspace derives
// from an [event.Group]. The gateway never subscribes to patterns, so a node receives only groups
// that it asked for by name, and each group belongs to one organization.
//
// # Guarantees
//
// Between the return of Subscribe and the call of Unsubscribe, the [Sink] gets every event
// published to the group once, in the order in which Redis took them, or else a gap. A payload that
// [event.Decode] refuses, above all one that names another organization than its channel, is never
// delivered. Calls of the Sink do not overlap.
//
// # Histories
//
// An event may be recorded: it is published and also kept in its group's history, where it has an
// [event.Position]. A history is limited in age and number. The history has the same order as the
// channel. One script, record.v1.lua, does both, so no event is in only one of the two.
//
// # Catching up
//
// Redis does not keep messages for a subscriber that is not connected. When the connection is lost,
// or silently stops carrying events, the group misses the events that are published until it is
// subscribed again. After that, and before any later event of the group, the link reads the
// recorded ones from the group's history and delivers them, so that members notice nothing.
//
// # Gaps
//
// The Sink's Gap is called first if events may still be missing. This is so if the history has
// dropped missed events or cannot be read, and if transient events were seen in the group, because
// no history has them. It is also so if the group has no history at all, and always with [Memory].
//
// A gap also replaces an event that comes again under the same idempotency key and another
// position, if a member joined the group after the event was delivered.
//
// # Pauses
//
// All organizations share one connection, so the events of one wait behind those of the others.
// Therefore each organization has a budget of events and bytes per second. A group whose event
// exceeds the budget is paused: the receiver drops this event and those on their way, and
// unsubscribes the group. It subscribes the group again when the organization has saved some of its
// budget. The group then catches up, or gets a gap, as after a lost connection. The longer other
// organizations had to wait, the longer the pause, up to 15 s.
//
// # Redis Cluster
//
// In a Redis Cluster, events travel on sharded channels, with SPUBLISH and SSUBSCRIBE, and there is
// one connection to each master. All names of an organization are in one slot, so its events come
// on one connection, in the order in which that slot's master took them. When the slot moves, or
// another server becomes its master, its groups are subscribed there and catch up. No other group
// is affected.
package pubsub

import (
	"errors"

	"orgcast/internal/event"
)

// ErrRunning is returned by Run while another Run of the same bus is running.
var ErrRunning = errors.New("pubsub: already running")

// Sink receives events from a bus; the hub is one. Calls of its methods do not overlap and are in
// order for each group. They must not block, because every event of the node waits behind them.
type Sink interface {
	// Deliver takes an event of a subscribed group.
	Deliver(e *event.Event)
	// Gap says that events of the group may have been lost at this point in its order.
	Gap(g event.Group)
}
