package roster

import (
	"time"

	"orgcast/internal/event"
)

// words are what Redis calls a subscription's two commands, and their confirmations.
type words struct{ on, off string }

//nolint:gochecknoglobals // constants
var (
	plainWords   = words{on: "subscribe", off: "unsubscribe"}
	shardedWords = words{on: "ssubscribe", off: "sunsubscribe"}
)

// Confirmation is what a message about a subscription changes.
type Confirmation struct {
	// Subscribed is the channel that is subscribed now, if it is a group's.
	Subscribed string
	// Gap is the group whose members are to be told of a gap now.
	Gap event.Group
	// Canary says that it is about the channel of the canaries: they arrive there from now on, or
	// if SlotLost, not any more.
	Canary bool
	// SlotLost says that the server has taken a channel away, because it has lost its slot.
	SlotLost bool
}

// Confirm takes note of a confirmation. A group that has missed something is left to
// [Roster.Behind], unless it is not known from where on.
//
// A confirmation of anything but the oldest command is the server's own doing. In a Cluster that is
// how it tells of a slot that it has lost. Anywhere else ok is false: the link is not what we
// believe it to be.
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

// unset takes note that a subscription whose end was asked for has ended.
func (r *Roster) unset(s *subscription, now, asked time.Time) {
	s.state, s.link = stateOff, nil
	if s.paused {
		r.schedule(s, now, now.Sub(asked))
	}
	r.settle(s, now)
}

// lostSlot takes note that a server has taken a channel away because it has lost its slot.
func (r *Roster) lostSlot(l *Link, channel string, now time.Time) Confirmation {
	c := Confirmation{SlotLost: true}
	if channel == l.canary {
		l.canaryLost = true
		c.Canary = true
		return c
	}
	s := r.subs[channel]
	if s == nil || s.link != l || s.state != stateOn {
		return c // the answer to a command of ours follows, or came before
	}
	s.off()
	if s.paused {
		r.schedule(s, now, 0)
	}
	r.settle(s, now)
	return c
}

// Refuse takes note of an answer that is no confirmation: the oldest command is for a slot that the
// server does not have, or not at present. owner is the address of the server that has it, if the
// answer says so. Refuse reports false if no command is under way.
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
				r.slots.strays = true // asking again at once would change nothing
			} else {
				r.settle(s, now)
			}
		}
	}
	return true
}
