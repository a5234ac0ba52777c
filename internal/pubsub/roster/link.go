package roster

import (
	"slices"
	"time"
)

const (
	// maxBatch is the most names in one command: enough to make the round trips of a mass join
	// few, and little enough (some 100 kB at the longest names) to leave other commands room.
	maxBatch = 512
	// maxUnconfirmed is the most names sent and not yet confirmed. Redis ends a subscriber whose
	// unread answers pass 32 MB, which a million names in one go would do.
	maxUnconfirmed = 16 * maxBatch
)

// Link is what a roster knows of one subscription connection: what is to be sent on it, what was
// sent and is to be confirmed, and which of its groups have to catch up. It lives from
// [Roster.Attach] to [Roster.Detach].
type Link struct {
	server     string // address of the Cluster's member that it leads to; "" if there is one server
	canary     string // the channel of its canaries
	canaryLost bool   // they do not arrive there, and need another channel

	queue   fifo[*subscription] // to be brought in line, oldest first
	sent    fifo[command]       // to be confirmed, in the order of their sending
	batches int                 // commands sent so far
	paused  []*subscription     // in the order of their pausing
	behind  fifo[Behind]        // to catch up
}

// command is one name of a command that Redis has not confirmed yet.
type command struct {
	kind    string
	channel string
	sub     *subscription // nil for a channel of canaries
	batch   int           // the command's number; it may have more names
	at      time.Time
}

// Attach makes a connection, on which the channel of its canaries is subscribed, the link to its
// server, and queues all that is wanted from there.
func (r *Roster) Attach(server, canary string, now time.Time) *Link {
	l := &Link{server: server, canary: canary}
	r.links[server] = l
	r.settleAll(now)
	return l
}

// Detach takes note that a link is gone: nothing is subscribed there any more.
func (r *Roster) Detach(l *Link, now time.Time) {
	if r.links[l.server] == l {
		delete(r.links, l.server)
	}
	for _, s := range l.paused { // another link begins without pauses, but not with a new budget
		r.unpause(s)
		if s.link == nil { // its end is confirmed
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

// settleAll sees to all subscriptions.
func (r *Roster) settleAll(now time.Time) {
	for s := r.oldest; s != nil; {
		next := s.following // it may be forgotten
		r.settle(s, now)
		s = next
	}
}

// settle moves a subscription towards what is wanted: it queues it for a command, or forgets it if
// it is over.
func (r *Roster) settle(s *subscription, now time.Time) {
	if !s.queued.IsZero() || s.state == stateSent || s.state == stateUnset {
		return // looked at again when its turn or its confirmation comes
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
		return // Attach will
	}
	s.queued = now
	s.link.queue.push(s)
}

// linkOf returns the link that is to carry a subscription, or nil.
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

// hasRoom reports whether a whole batch more may be unconfirmed; smaller ones would be many.
func (l *Link) hasRoom() bool { return l.sent.len() <= maxUnconfirmed-maxBatch }

// UnconfirmedSince returns when the oldest command was sent that Redis has not confirmed, zero
// without one.
func (l *Link) UnconfirmedSince() time.Time {
	c, _ := l.sent.first()
	return c.at
}

// WaitingSince returns since when the oldest subscription waits for its command or its
// confirmation, zero without one.
func (l *Link) WaitingSince() time.Time {
	since := l.UnconfirmedSince()
	if s, ok := l.queue.first(); ok && s.link == l && !s.queued.IsZero() && (since.IsZero() || s.queued.Before(since)) {
		return s.queued
	}
	return since
}

// Command is one subscription command, whose names are of one slot.
type Command struct {
	Kind     string // as Redis calls it in its confirmations
	Channels []string
}

// Next takes up to a batch of subscriptions from the queue of a link and returns the commands for
// them. It notes them as sent before they are: the confirmation may be faster than the writer.
// Before they are sent, the newest positions of the groups in [Roster.Unlocated] are to be read.
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
			continue // taken away from this link while it stood in line
		}
		s.queued = time.Time{}
		switch {
		case s.isSettled() || s.state == stateOff && r.linkOf(s) != l:
			if s.state == stateOff {
				s.link = nil
			}
			r.settle(s, now) // it was changed back meanwhile, or its slot has moved
		case s.isWanted():
			s.state = stateSent
			on = append(on, s)
		default:
			s.state = stateUnset
			s.stopCatching()
			if !s.paused {
				s.cursor.known = false // nobody follows it any more
				s.cursor.seen.forget(s.budget)
			}
			off = append(off, s)
		}
	}
	return append(append(commands, l.send(r.words.on, on, now)...), l.send(r.words.off, off, now)...)
}

// send notes the commands that say the same of several subscriptions as sent: one for each slot.
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
