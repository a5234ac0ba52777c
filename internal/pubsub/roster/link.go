package roster

import (
	"slices"
	"time"
)

const (
	// maxBatch is the most names in one command. It keeps round trips few when many groups are
	// joined at once, and commands small enough (some 100 kB with the longest names) not to delay
	// others.
	maxBatch = 512
	// maxUnconfirmed is the most names sent and not yet confirmed. Redis disconnects a subscriber
	// when 32 MB of its answers are unread, and a million names sent at once would cause that.
	maxUnconfirmed = 16 * maxBatch
)

// Link is the state of one subscription connection: commands to send, commands to be confirmed, and
// groups that have to catch up. It lives from [Roster.Attach] to [Roster.Detach].
type Link struct {
	server     string // address of the Cluster's server; "" without a Cluster
	canary     string // the channel of its canaries
	canaryLost bool   // canaries no longer arrive there and need another channel

	queue   fifo[*subscription] // subscriptions that need a command, oldest first
	sent    fifo[command]       // waiting for confirmation, in the order sent
	batches int                 // commands sent so far
	paused  []*subscription     // paused subscriptions, in the order of their pauses
	behind  fifo[Behind]        // groups that have to catch up
}

// command is one name in a command that Redis has not confirmed yet.
type command struct {
	kind    string
	channel string
	sub     *subscription // nil for a canary channel
	batch   int           // the number of the command, which may contain more names
	at      time.Time
}

// Attach registers a new connection, whose canary channel is subscribed, as the link to its server.
// It queues all subscriptions that are wanted from that server.
func (r *Roster) Attach(server, canary string, now time.Time) *Link {
	l := &Link{server: server, canary: canary}
	r.links[server] = l
	r.settleAll(now)
	return l
}

// Detach removes a lost link and marks its subscriptions as off.
func (r *Roster) Detach(l *Link, now time.Time) {
	if r.links[l.server] == l {
		delete(r.links, l.server)
	}
	for _, s := range l.paused { // another link begins without pauses, but keeps the budget
		r.unpause(s)
		if s.link == nil { // its UNSUBSCRIBE is confirmed
			r.settle(s, now)
		}
	}
	for s := r.oldest; s != nil; {
		next := s.following
		if s.link == l {
			s.off()
			r.settle(s, now)
		}
		s = next
	}
}

// settleAll settles all subscriptions.
func (r *Roster) settleAll(now time.Time) {
	for s := r.oldest; s != nil; {
		next := s.following // settle may forget s
		r.settle(s, now)
		s = next
	}
}

// settle moves a subscription toward the wanted state. It queues the subscription for a command, or
// forgets it if it is no longer needed.
func (r *Roster) settle(s *subscription, now time.Time) {
	if !s.queued.IsZero() || s.state == stateSent || s.state == stateUnset {
		return // settled again when its turn or its confirmation comes
	}
	if s.isSettled() {
		if s.count == 0 && !s.paused { // leaving and coming back does not end a pause
			r.forget(s)
		}
		return
	}
	if s.state == stateOff {
		s.link = r.linkOf(s)
	}
	if s.link == nil {
		return // Attach will queue it
	}
	s.queued = now
	s.link.queue.push(s)
}

// linkOf returns the link on which a subscription belongs, or nil.
func (r *Roster) linkOf(s *subscription) *Link {
	if !r.opt.Sharded {
		return r.links[""]
	}
	return r.links[r.slots.owners[s.slot]]
}

// MayWrite reports whether there may be commands to send.
func (l *Link) MayWrite() bool { return (l.queue.len() > 0 || l.canaryLost) && l.hasRoom() }

// MayRead reports whether there may be histories to read.
func (l *Link) MayRead() bool { return l.behind.len() > 0 }

// Canary returns the channel of the link's canaries.
func (l *Link) Canary() string { return l.canary }

// hasRoom reports whether a full batch may be sent. Smaller batches would be many.
func (l *Link) hasRoom() bool { return l.sent.len() <= maxUnconfirmed-maxBatch }

// UnconfirmedSince returns when the oldest unconfirmed command was sent, zero if there is none.
func (l *Link) UnconfirmedSince() time.Time {
	c, _ := l.sent.first()
	return c.at
}

// WaitingSince returns since when the oldest subscription has waited for its command or its
// confirmation, zero if none waits.
func (l *Link) WaitingSince() time.Time {
	since := l.UnconfirmedSince()
	if s, ok := l.queue.first(); ok && s.link == l && !s.queued.IsZero() && (since.IsZero() || s.queued.Before(since)) {
		return s.queued
	}
	return since
}

// Command is one subscription command. All its channels are in one slot.
type Command struct {
	Kind     string // the name in Redis's confirmations
	Channels []string
}

// Next takes up to a batch of subscriptions from the queue of a link and returns the commands for
// them. It marks them as sent at once, because a confirmation may be faster than the writer. Before
// the caller sends them, it reads the newest positions of the groups in [Roster.Unlocated].
func (r *Roster) Next(l *Link, now time.Time) (commands []Command) {
	if !l.hasRoom() {
		return nil
	}
	if l.canaryLost && r.renameCanary(l) {
		l.canaryLost = false
		l.batches++
		l.sent.push(command{kind: r.words.on, channel: l.canary, batch: l.batches, at: now})
		commands = append(commands, Command{Kind: r.words.on, Channels: []string{l.canary}})
	}
	var on, off []*subscription
	for len(on)+len(off) < maxBatch {
		s, ok := l.queue.pop()
		if !ok {
			break
		}
		if s.link != l || s.queued.IsZero() {
			continue // it left this link while it was queued
		}
		s.queued = time.Time{}
		switch {
		case s.isSettled() || s.state == stateOff && r.linkOf(s) != l:
			if s.state == stateOff {
				s.link = nil
			}
			r.settle(s, now) // the wanted state changed back meanwhile, or the slot has moved
		case s.isWanted():
			s.state = stateSent
			on = append(on, s)
		default:
			s.state = stateUnset
			s.stopCatching()
			if !s.paused {
				s.cursor.known = false // no member follows it anymore
				s.cursor.seen.forget(s.budget)
			}
			off = append(off, s)
		}
	}
	return append(append(commands, l.send(r.words.on, on, now)...), l.send(r.words.off, off, now)...)
}

// send records a command for several subscriptions as sent, split by slot.
func (l *Link) send(kind string, subs []*subscription, now time.Time) (commands []Command) {
	slices.SortStableFunc(subs, func(a, b *subscription) int { return int(a.slot) - int(b.slot) })
	for i, s := range subs {
		if i == 0 || subs[i-1].slot != s.slot {
			l.batches++
			commands = append(commands, Command{Kind: kind})
		}
		last := &commands[len(commands)-1]
		last.Channels = append(last.Channels, s.channel)
		l.sent.push(command{kind: kind, channel: s.channel, sub: s, batch: l.batches, at: now})
	}
	return commands
}
