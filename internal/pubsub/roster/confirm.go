package roster

import (
	"time"

	"orgcast/internal/event"
)

// words are the names of the two subscription commands in Redis, which its confirmations repeat.
type words struct{ on, off string }

//nolint:gochecknoglobals // constants
var (
	plainWords   = words{on: "subscribe", off: "unsubscribe"}
	shardedWords = words{on: "ssubscribe", off: "sunsubscribe"}
)

// Confirmation tells what a confirmation from Redis changed.
type Confirmation struct {
	// Subscribed is the channel that is now subscribed, empty if it is not a group's.
	Subscribed string
	// Gap is the group whose members must be told of a gap now.
	Gap event.Group
	// Canary says that the confirmation is about the canary channel: canaries arrive there from now
	// on or, if SlotLost, no longer do.
	Canary bool
	// SlotLost says that the server ended a subscription because it lost the channel's slot.
	SlotLost bool
}

// Confirm handles a confirmation. A group that has missed events goes to [Roster.Behind], unless
// the position to read from is unknown.
//
// If the confirmation does not match the oldest command, the server ended the subscription by
// itself. In a Cluster, a server does so when it loses a slot. Otherwise ok is false: the link is
// in an unknown state.
func (r *Roster) Confirm(l *Link, kind, channel string, now time.Time) (c Confirmation, ok bool) {
	first, ok := l.sent.first()
	if !ok || first.kind != kind || first.channel != channel {
		if kind == shardedWords.off {
			return r.lostSlot(l, channel, now), true
		}
		return Confirmation{}, false
	}
	l.sent.pop()
	s := first.sub
	switch {
	case s == nil:
		c.Canary = true
	case first.kind == r.words.on:
		s.state = stateOn
		c.Subscribed = channel
		switch {
		case s.missed && s.cursor.lost:
			s.missed = false
			c.Gap = s.group
		case s.missed:
			s.startCatching(l)
		}
		s.cursor.lost = false
		r.settle(s, now)
	default:
		r.unset(s, now, first.at)
	}
	return c, true
}

// unset marks a subscription as ended after Redis confirmed its UNSUBSCRIBE.
func (r *Roster) unset(s *subscription, now, asked time.Time) {
	s.state, s.link = stateOff, nil
	if s.paused {
		r.schedule(s, now, now.Sub(asked))
	}
	r.settle(s, now)
}

// lostSlot handles a channel that the server ended because it lost the channel's slot.
func (r *Roster) lostSlot(l *Link, channel string, now time.Time) Confirmation {
	c := Confirmation{SlotLost: true}
	if channel == l.canary {
		l.canaryLost = true
		c.Canary = true
		return c
	}
	s := r.subs[channel]
	if s == nil || s.link != l || s.state != stateOn {
		return c // a command of ours for it was answered already, or its answer follows
	}
	s.off()
	if s.paused {
		r.schedule(s, now, 0)
	}
	r.settle(s, now)
	return c
}

// Refuse handles an error instead of a confirmation: the server does not have the slot of the
// oldest command, or not at present. owner is the address of the slot's server if the error names
// it. Refuse reports false if no command is in progress.
func (r *Roster) Refuse(l *Link, owner string, now time.Time) bool {
	first, ok := l.sent.first()
	if !ok {
		return false
	}
	for {
		c, ok := l.sent.first()
		if !ok || c.batch != first.batch {
			break
		}
		l.sent.pop()
		switch s := c.sub; {
		case s == nil:
			l.canaryLost = true
		case c.kind == r.words.off:
			r.unset(s, now, c.at)
		default:
			if owner != "" && owner != l.server {
				r.slots.owners[s.slot] = owner
			}
			s.off()
			if r.linkOf(s) == l {
				r.slots.strays = true // asking the same server again would not help
			} else {
				r.settle(s, now)
			}
		}
	}
	return true
}
