// Package roster decides what a node's subscriptions need next. It knows which groups are wanted,
// what is subscribed on which link, how far each group has come in its history, and what each
// organization has used of its budget.
//
// It is a state machine: inputs and times go in, commands and verdicts come out. It does no I/O,
// starts no goroutine, asks no clock, and has no lock: its caller makes one call at a time. The
// same inputs have the same results, so tests drive it without Redis.
//
// # Commands
//
// A call changes what a [Link] has to do. [Link.MayWrite] says that [Roster.Next] has subscription
// commands for it, and [Link.MayRead] that [Roster.Behind] has groups whose histories are to be
// read. Redis answers in order, so each answer is matched with the oldest command
// ([Roster.Confirm], [Roster.Refuse]).
//
// # Messages
//
// [Roster.Judge] says what becomes of each message before anything is spent on it. A group that has
// missed events catches up first: its messages are held, and handed over after the events of its
// history. See [Roster.HandOver].
package roster

import (
	mathrand "math/rand/v2"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Options of [New]. Keys must be given.
type Options struct {
	Keys keyspace.Keyspace
	// NodeID names the node's canary channels in a Cluster.
	NodeID string
	// Sharded says that the server is a Redis Cluster, in which each link leads to the master of
	// some slots.
	Sharded bool
	// EventsPerSecond and BytesPerSecond are what an organization may use in the long run;
	// negative: no limit.
	EventsPerSecond float64
	BytesPerSecond  int64
	// Rand returns a number from 0 to n-1, for jitter. Default: a random one.
	Rand func(n int64) int64
}

// Roster is the list of subscriptions of a node. It is not safe for concurrent use.
type Roster struct {
	// Fixed after construction.
	opt    Options
	tariff tariff
	words  words

	subs    map[string]*subscription // by channel
	oldest  *subscription            // of a list of the same, in the order of their making
	newest  *subscription
	budgets map[orgctx.ID]*budget // of the organizations that have subscriptions
	links   map[string]*Link      // by the address of their server, "" if there is one
	slots   slots                 // of a Cluster

	wanted, paused int
}

// New returns a Roster without links, in which nothing is wanted.
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

// Subscribe asks for a group once more. It reports whether the group is subscribed already; if not,
// [Roster.Confirm] will tell. A group that is paused counts as subscribed: a gap follows before its
// next event.
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

// Unsubscribe takes one Subscribe back, and reports whether it was the last. Without one it does
// nothing.
func (r *Roster) Unsubscribe(g event.Group, now time.Time) (last bool) {
	s := r.subs[r.opt.Keys.GroupChannel(g)]
	if s == nil || s.count == 0 {
		return false
	}
	s.count--
	if s.count == 0 {
		r.wanted--
		s.missed = s.paused // the next subscriber had nothing else to miss
	}
	r.settle(s, now)
	return s.count == 0
}

// add puts a subscription on the list.
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

// forget drops a subscription that is over, and with an organization's last one its budget.
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

// Mark returns the place from which a client that has received what the group has can resume. ok is
// false if that is not known.
func (r *Roster) Mark(g event.Group) (m event.Mark, ok bool) {
	s := r.subs[r.opt.Keys.GroupChannel(g)]
	if s == nil || !s.cursor.known || s.cursor.mark == (event.Mark{}) {
		return event.Mark{}, false
	}
	return s.cursor.mark, true
}

// Unseen leaves out of what a history has what a browser that has seen everything up to a position
// has seen under another one, as far as this node knows. Unless it was at that other position
// itself, the browser may have come from a node that did not show it. Nothing is to be shown twice,
// so that is a gap, and the answer begins after it.
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
