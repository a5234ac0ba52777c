package former

import (
	"errors"
	"slices"
	"time"

	"orgcast/internal/event"
)

var errUnexpected = errors.New("unexpected")

const (
	// maxBatch is the most names in one command: enough to make the round trips of a mass join
	// few, and little enough (some 100 kB at the longest names) to leave other commands room.
	maxBatch = 512
	// maxUnconfirmed is the most names sent and not yet confirmed. Redis ends a subscriber whose
	// unread answers pass 32 MB, which a million names in one go would do.
	maxUnconfirmed = 16 * maxBatch
)

// state is where a subscription stands on its link. One command at most is under way for
// a channel; what was asked for meanwhile is settled when its confirmation comes. So every order
// of Subscribe and Unsubscribe converges.
type state int

const (
	stateOff   state = iota
	stateOn          // confirmed
	stateSent        // SUBSCRIBE is under way
	stateUnset       // UNSUBSCRIBE is under way
)

// subscription is one group that is wanted, or was until a moment ago.
type subscription struct {
	group   event.Group
	channel string
	slot    uint16 // of a Cluster; 0 if there is none
	meter   *meter // of its organization

	number    int           // in the order of their making
	joined    uint64        // Subscribe calls
	count     int           // Subscribe calls less Unsubscribe calls: it is wanted if positive
	link      *link         // that it is queued for, or not off on; else nil
	state     state         // on its link; off while it has none
	queued    time.Time     // when it went into the link's queue, zero while it is not there
	missed    bool          // was on when a link broke or it was paused: it has to catch up
	confirmed chan struct{} // closed exactly while the state is on or it is paused

	paused   bool          // its organization exceeds its budget; only while there is a link
	pause    time.Duration // without jitter, known when the state is off, as is resumeAt
	resumeAt time.Time     // at the earliest

	place place      // in its history
	shown shownGroup // its part of what its organization has shown
}

// wanted reports whether it is to be on.
func (s *subscription) wanted() bool { return s.count > 0 && !s.paused }

// settled reports whether the state is what is wanted.
func (s *subscription) settled() bool { return s.wanted() == (s.state == stateOn) }

// off takes note that it is not subscribed any more, or not yet, and on no link. Whether it was is
// told by its state.
func (s *subscription) off() {
	if s.state == stateOn && !s.paused {
		s.missed = s.count > 0
		s.confirmed = make(chan struct{})
	}
	s.state, s.queued, s.link = stateOff, time.Time{}, nil
	s.stopCatching()
	if s.place.known = s.place.known && s.missed; !s.place.known { // where it would begin now is read again
		s.place.seen.forget(s.meter)
	}
}

// attach makes l the link to its server and queues all that is wanted from there.
func (r *Receiver) attach(l *link) {
	r.links[l.server] = l
	r.settleAll()
}

// settleAll sees to all subscriptions.
func (r *Receiver) settleAll() {
	for _, s := range r.inOrder() {
		r.settle(s)
	}
}

// detach takes note that a link is gone: nothing is subscribed there any more.
func (r *Receiver) detach(l *link) {
	if r.links[l.server] == l {
		delete(r.links, l.server)
	}
	for _, s := range l.paused { // another link begins without pauses, but not with a new budget
		r.unpause(s)
		if s.link == nil { // its end is confirmed
			r.settle(s)
		}
	}
	for _, s := range r.inOrder() {
		if s.link == l {
			s.off()
			r.settle(s)
		}
	}
}

// linkOf returns the link that is to carry a subscription, or nil.
func (r *Receiver) linkOf(s *subscription) *link {
	if r.shards == nil {
		return r.links[""]
	}
	return r.links[r.shards.owners[s.slot]]
}

// settle sees to it that the subscription becomes what is wanted: queues it, or forgets it if it is
// over.
func (r *Receiver) settle(s *subscription) {
	if !s.queued.IsZero() || s.state == stateSent || s.state == stateUnset {
		return // looked at again when its turn or its confirmation comes
	}
	if s.settled() {
		if s.count == 0 && !s.paused { // leaving and coming back does not end a pause
			r.forget(s)
		}
		return
	}
	if s.state == stateOff {
		s.link = r.linkOf(s)
	}
	if s.link == nil {
		return // attach will
	}
	s.queued = r.now
	s.link.queue.push(s)
	s.link.rouse()
}

// batch is one command, whose names are of one slot.
type batch struct {
	kind     string
	channels []string
}

// nextBatches takes up to maxBatch subscriptions from the queue and returns the commands for them.
// It notes them as sent before they are: the confirmation may be faster than the writer.
func (r *Receiver) nextBatches(l *link) (batches []batch) {
	now := r.now
	if !l.hasRoom() {
		return nil
	}
	if l.canaryLost && r.shards.canary(l, r.keys, r.nodeID, r.rand) {
		l.canaryLost = false
		l.batches++
		l.sent.push(command{kind: l.words.on, channel: l.canary, batch: l.batches, at: now})
		batches = append(batches, batch{kind: l.words.on, channels: []string{l.canary}})
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
		case s.settled() || s.state == stateOff && r.linkOf(s) != l:
			if s.state == stateOff {
				s.link = nil
			}
			r.settle(s) // it was changed back meanwhile, or its slot has moved
		case s.wanted():
			s.state = stateSent
			on = append(on, s)
		default:
			s.state = stateUnset
			s.stopCatching()
			if !s.paused {
				s.confirmed = make(chan struct{})
				s.place.known = false // nobody follows it any more
				s.place.seen.forget(s.meter)
			}
			off = append(off, s)
		}
	}
	return append(batches, append(l.command(l.words.on, on, now), l.command(l.words.off, off, now)...)...)
}

// command notes the commands that say the same of several subscriptions as sent: one for each slot.
func (l *link) command(kind string, subs []*subscription, now time.Time) (batches []batch) {
	slices.SortStableFunc(subs, func(a, b *subscription) int { return int(a.slot) - int(b.slot) })
	for i, s := range subs {
		if i == 0 || subs[i-1].slot != s.slot {
			l.batches++
			batches = append(batches, batch{kind: kind})
		}
		last := &batches[len(batches)-1]
		last.channels = append(last.channels, s.channel)
		l.sent.push(command{kind: kind, channel: s.channel, sub: s, batch: l.batches, at: now})
	}
	return batches
}

// confirm takes note of a confirmation. It returns the group whose Sink is to hear of a gap now,
// or the zero Group; a group that can catch up is left to catchUp. A confirmation of anything but
// the oldest command is the server's own doing. In a Cluster that is how it tells of a slot that it
// has lost; anywhere else the link is not what we believe it to be.
func (r *Receiver) confirm(l *link, kind, channel string, now time.Time) (gap event.Group, err error) {
	l.lastReceived = now
	c, ok := l.sent.first()
	if !ok || c.kind != kind || c.channel != channel {
		if kind == shardedWords.off {
			r.taken(l, channel, now)
			return event.Group{}, nil
		}
		return event.Group{}, errUnexpected
	}
	l.sent.pop()
	s := c.sub
	switch {
	case s == nil:
		l.canaryOn = true
	case c.kind == l.words.on:
		s.state = stateOn
		close(s.confirmed)
		switch {
		case s.missed && s.place.lost:
			s.missed = false
			gap = s.group
		case s.missed:
			s.startCatching(l)
		}
		s.place.lost = false
		r.settle(s)
	default:
		r.unset(s, now, c.at)
	}
	l.goOn()
	return gap, nil
}

// unset takes note that a subscription whose end was asked for has ended.
func (r *Receiver) unset(s *subscription, now, asked time.Time) {
	s.state, s.link = stateOff, nil
	if s.paused {
		r.schedule(s, now, now.Sub(asked))
	}
	r.settle(s)
}

// goOn wakes reconcile, which may have waited for room.
func (l *link) goOn() {
	if (l.queue.len() > 0 || l.canaryLost) && l.hasRoom() {
		l.rouse()
	}
}
