// Package roster decides which subscription commands a node sends next. It knows which groups are
// wanted, what is subscribed on which link, how far each group has come in its history, and what
// each organization has used of its budget.
//
// It is a state machine: inputs and times go in, commands and verdicts come out. It does no I/O,
// starts no goroutine, asks no clock, and has no lock: its caller makes one call at a time. The
// same inputs have the same results, so tests drive it without Redis.
//
// # Commands
//
// A call changes what a [Link] has to do. [Link.MayWrite] says that [Roster.Next] has subscription
// commands for it. [Link.MayRead] says that [Roster.Behind] has groups whose histories must be
// read. Redis answers in order, so each answer belongs to the oldest command ([Roster.Confirm],
// [Roster.Refuse]).
//
// # Messages
//
// [Roster.Judge] decides what happens to each message before it is decoded. A group that missed
// events catches up first: its messages are held, and delivered after the events of its history.
// See [Roster.HandOver].
package roster

import (
	mathrand "math/rand/v2"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Options are the options of [New]. Keys is required.
type Options struct {
	Keys keyspace.Keyspace
	// NodeID names the node's canary channels in a Cluster.
	NodeID string
	// Sharded says that the server is a Redis Cluster. Each link then leads to the master of some
	// slots.
	Sharded bool
	// EventsPerSecond and BytesPerSecond limit each organization's average rate. A negative value
	// means no limit.
	EventsPerSecond float64
	BytesPerSecond  int64
	// Rand returns a number from 0 to n-1, for jitter. Default: math/rand/v2.
	Rand func(n int64) int64
}

// Roster is the list of subscriptions of a node. It is not safe for concurrent use.
type Roster struct {
	// Set by New, and not changed after that.
	opt   Options
	words words

	tariff tariff

	subs    map[string]*subscription // by channel
	oldest  *subscription            // a linked list of all subscriptions, oldest first
	newest  *subscription
	budgets map[orgctx.ID]*budget // of the organizations that have subscriptions
	links   map[string]*Link      // by the address of their server, "" without a Cluster
	slots   slots                 // only in a Cluster

	wanted, paused int
}

// SetBudget replaces EventsPerSecond and BytesPerSecond. What organizations have used so far, they
// have used.
func (r *Roster) SetBudget(eventsPerSecond float64, bytesPerSecond int64) {
	r.tariff = newTariff(eventsPerSecond, bytesPerSecond)
}

// New returns a Roster without links and without wanted groups.
func New(o Options) *Roster {
	if o.Rand == nil {
		o.Rand = mathrand.Int64N
	}
	r := &Roster{
		opt: o, tariff: newTariff(o.EventsPerSecond, o.BytesPerSecond), words: plainWords,
		subs: make(map[string]*subscription), budgets: make(map[orgctx.ID]*budget), links: make(map[string]*Link),
	}
	if o.Sharded {
		r.words = shardedWords
		r.slots.owners = make([]string, keyspace.Slots)
	}
	return r
}

// Subscribe adds one subscriber to a group. It reports whether the group is subscribed already; if
// not, [Roster.Confirm] returns its channel later. A paused group counts as subscribed, because its
// members get its missed events or a gap before its next event.
func (r *Roster) Subscribe(g event.Group, now time.Time) (subscribed bool) {
	channel := r.opt.Keys.GroupChannel(g)
	s := r.subs[channel]
	if s == nil {
		s = &subscription{group: g, channel: channel, budget: r.budgetOf(g)}
		if r.opt.Sharded {
			s.slot = keyspace.Slot(channel)
		}
		r.add(s)
	}
	s.count++
	s.joined++
	if s.count == 1 {
		r.wanted++
	}
	r.settle(s, now)
	return s.state == stateOn || s.paused
}

// Unsubscribe removes one subscriber of a group, and reports whether it was the last. It does
// nothing if the group has none.
func (r *Roster) Unsubscribe(g event.Group, now time.Time) (last bool) {
	s := r.subs[r.opt.Keys.GroupChannel(g)]
	if s == nil || s.count == 0 {
		return false
	}
	s.count--
	if s.count == 0 {
		r.wanted--
		s.missed = s.paused // the next subscriber cannot have missed earlier events
	}
	r.settle(s, now)
	return s.count == 0
}

// add appends a subscription to the list.
func (r *Roster) add(s *subscription) {
	r.subs[s.channel] = s
	s.before = r.newest
	if r.newest == nil {
		r.oldest = s
	} else {
		r.newest.following = s
	}
	r.newest = s
}

// forget removes a subscription, and its organization's budget if it was the last one.
func (r *Roster) forget(s *subscription) {
	delete(r.subs, s.channel)
	if s.before == nil {
		r.oldest = s.following
	} else {
		s.before.following = s.following
	}
	if s.following == nil {
		r.newest = s.before
	} else {
		s.following.before = s.before
	}
	s.cursor.seen.forget(s.budget)
	s.budget.shown.forget(&s.shown)
	if s.budget.subs--; s.budget.subs == 0 {
		delete(r.budgets, s.group.Organization())
	}
}

// budgetOf returns the budget of the group's organization for one more subscription.
func (r *Roster) budgetOf(g event.Group) *budget {
	b := r.budgets[g.Organization()]
	if b == nil {
		b = new(budget)
		r.budgets[g.Organization()] = b
	}
	b.subs++
	return b
}

// Wanted returns how many groups are wanted, and how many of them are paused.
func (r *Roster) Wanted() (wanted, paused int) { return r.wanted, r.paused }

// Mark returns the mark from which a client can resume the group, if the client has received all of
// its events so far. ok is false if the mark is not known.
func (r *Roster) Mark(g event.Group) (m event.Mark, ok bool) {
	s := r.subs[r.opt.Keys.GroupChannel(g)]
	if s == nil || !s.cursor.known || s.cursor.mark == (event.Mark{}) {
		return event.Mark{}, false
	}
	return s.cursor.mark, true
}

// Unseen removes events that a browser has seen under another position from the events of a
// history. The browser has seen everything up to after. If after is not that other position itself,
// the browser may come from a node that did not show the event. No event may be shown twice, so
// that is a gap, and the answer begins after it.
func (r *Roster) Unseen(g event.Group, after event.Position, events []*event.Event, complete bool) ([]*event.Event, bool) {
	s := r.subs[r.opt.Keys.GroupChannel(g)]
	if s == nil {
		return events, complete
	}
	kept := events[:0]
	for _, e := range events {
		before := s.budget.shown.repeats(&s.shown, event.Head{Position: e.Position(), Key: e.Key()})
		switch {
		case before == nil || before.position.Compare(after) > 0:
			kept = append(kept, e)
		case before.position != after:
			kept, complete = kept[:0], false
		}
	}
	clear(events[len(kept):])
	return kept, complete
}
