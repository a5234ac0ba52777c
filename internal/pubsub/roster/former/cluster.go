package former

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/keyspace"
)

const canaryTags = 20 * keyspace.Slots

type shards struct {
	owners []string
	strays bool
}

// canary chooses another channel for a link's canaries, in a slot of its server. It reports false
// if that has none.
func (s *shards) canary(l *link, keys keyspace.Keyspace, node string, rand func(int64) int64) bool {
	if !slices.Contains(s.owners, l.server) {
		return false
	}
	start := uint64(rand(1 << 32)) //nolint:gosec // not negative
	for n := range uint64(canaryTags) {
		channel := keys.CanaryIn(strconv.FormatUint(start+n, 36), node)
		if channel != l.canary && s.owners[keyspace.Slot(channel)] == l.server {
			l.canary = channel
			return true
		}
	}
	return false
}

// masters returns who owns slots. err says that some have no owner.
func (s *shards) masters() (list []string, complete bool) {
	last := ""
	complete = true
	for _, owner := range s.owners {
		switch {
		case owner == "":
			complete = false
		case owner != last && !slices.Contains(list, owner):
			list = append(list, owner)
		}
		last = owner
	}
	return list, complete
}

// survey finds out who owns which slot, and sees to the subscriptions that have waited for that.
func (r *Receiver) survey(owners []string) {
	changed := owners != nil && !slices.Equal(owners, r.shards.owners)
	if changed {
		r.shards.owners = owners
	}
	if changed || r.shards.strays {
		r.shards.strays = false
		r.settleAll()
	}
	for _, l := range r.links {
		l.goOn() // its canaries may wait for a channel
	}
}

// taken takes note that a server has taken a channel away because it has lost its slot.
func (r *Receiver) taken(l *link, channel string, now time.Time) {
	l.suspect = true
	if channel == l.canary {
		l.canaryOn, l.canaryLost = false, true
		l.accepted = nil // they went to the slot's new owner
		l.rouse()
		return
	}
	s := r.subs[channel]
	if s == nil || s.link != l || s.state != stateOn {
		return // the answer to a command of ours follows, or came before
	}
	s.off()
	if s.paused {
		r.schedule(s, now, 0)
	}
	r.settle(s)
}

// refused takes note of an answer that is no confirmation: the oldest command is for a slot that
// the server does not have, or not at present. It reports false if err says anything else.
func (r *Receiver) refused(l *link, owner string, moved bool, now time.Time) bool {
	l.lastReceived = now
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
		case c.kind == l.words.off:
			r.unset(s, now, c.at)
		default:
			if moved && owner != l.server && !strings.HasPrefix(owner, ":") {
				r.shards.owners[s.slot] = owner
			}
			s.off()
			if r.linkOf(s) == l {
				r.shards.strays = true // asking again at once would change nothing
			} else {
				r.settle(s)
			}
		}
	}
	l.goOn()
	return true
}
