// Package pubsub carries events between processes. [Redis] does it through Redis, [Memory] inside
// one process; both satisfy the hub's Bus and the same contract, which package pubsubtest holds.
//
// # Names
//
// A group's events travel on one channel, prefix:{ORG}:group:NAME, made from an [event.Group] by
// package keyspace. No pattern subscription exists, so a node hears only the groups that it asked
// for by name, and each of those belongs to one organization.
//
// # Guarantees
//
// Between the return of Subscribe and the call of Unsubscribe, every event published to the group
// reaches the [Sink] once, in the order in which Redis took it, or else the Sink is told of a gap.
// A payload that [event.Decode] refuses, above all one that names another organization than its
// channel does, reaches nobody. Calls of the Sink do not overlap.
//
// # Histories
//
// An event may be recorded: it is published and also kept in its group's history, for a time and up
// to a number, where it has an [event.Position]. The history has the order of the channel. One
// script, record.v1.lua, does both, so that no event is in one of the two and not in the other.
//
// # Catching up
//
// Redis keeps nothing on a channel for a subscriber that is not connected. When the connection is
// lost, or silently stops carrying events, the channel loses the events that are published until
// the group is subscribed again. After that, and before any later event of the group, the link
// reads the recorded ones from the group's history and hands them over, so that members notice
// nothing.
//
// # Gaps
//
// The Sink's Gap is called first if that may not be everything: if the history has dropped missed
// events, or cannot be read; if transient events have been seen in the group, because no history
// has them; if the group has no history at all, such as one of transient events; and with [Memory],
// always.
//
// A gap also replaces an event that comes again under its idempotency key and another position, if
// a member has joined the group since it was handed over.
//
// # Pauses
//
// All organizations share one connection, so the events of one wait behind those of the others.
// Therefore each organization has a budget of events and bytes per second. A group whose event
// exceeds it is paused: the receiver drops this event and those on their way, and unsubscribes the
// group. It subscribes the group again when the organization has saved up some of its budget. The
// group then catches up, or the Sink is told of the gap, as after a lost connection. The longer the
// others had to wait, the longer the pause, up to 15 s.
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

// ErrRunning is returned by Run while another Run of the same bus goes on: there is one receiver.
var ErrRunning = errors.New("pubsub: already running")

// Sink takes what a bus received; the hub is one. Calls of its methods do not overlap, are in order
// for each group, and must not block: every event of the node waits behind them.
type Sink interface {
	// Deliver takes an event of a group that is subscribed.
	Deliver(e *event.Event)
	// Gap says that events of the group may have been lost at this point of its order.
	Gap(g event.Group)
}
