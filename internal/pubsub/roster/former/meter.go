package former

import (
	"time"

	"orgcast/internal/event"
)

const (
	// meterBurst is how much an organization may save up, in time of its budget. A flood comes at
	// once until that is used up, and meanwhile fills what Redis keeps for this subscriber: with
	// the default budget a second's worth was seen to reach the 32 MB at which Redis ends it.
	meterBurst = 250 * time.Millisecond
	// resumeRoom is how much of that it must have saved before a group of it is taken up again.
	resumeRoom = meterBurst / 2
	// A pause is pauseFactor times as long as the others' events had to wait when it began: however
	// long the flood lasts, well under one in a hundred of them has to, so their p99 stays.
	pauseFactor = 400
	minPause    = 200 * time.Millisecond
	maxPause    = 10 * time.Second // half as much again with its jitter
	// minRoom is the least that a group has when it comes back after the shortest pause.
	minRoom = time.Millisecond
)

// meter is what one organization has used of its budget. Its subscriptions share it, and
//
//	It counts in time: an event costs as long as the budget takes to earn it.
type meter struct {
	subs  int   // that share it
	shown shown // what they have shown under idempotency keys
	seen  int   // bytes of the positions that they remember
	// paid is the moment until which the budget is spent: full before now, empty meterBurst later.
	paid time.Time
	// since is when it began to spend what it had, and lasted how long that was enough for.
	since  time.Time
	lasted time.Duration
}

// spend takes the cost of one event from the budget and reports whether there was anything left.
func (m *meter) spend(now time.Time, cost time.Duration) bool {
	switch used := m.paid.Sub(now); {
	case used >= meterBurst:
		m.lasted = now.Sub(m.since)
		return false
	case used < 0:
		m.since = now
		m.paid = now.Add(cost)
	default:
		m.paid = m.paid.Add(cost)
	}
	return true
}

// hasRoom reports whether a group of the organization may come back.
func (m *meter) hasRoom(now time.Time) bool { return m.paid.Sub(now) <= meterBurst-resumeRoom }

// takeUp lets a group come back, after a pause that may have been longer than the shortest. The
// more the organization delayed others, and the faster it used up what it had, the less it may send
// before it is paused again: who only exceeds its budget has all of it, a flood what it takes to
// see that it goes on.
func (m *meter) takeUp(now time.Time, pause time.Duration) {
	room := time.Duration(float64(min(max(m.lasted, minRoom), meterBurst)) * float64(minPause) / float64(pause))
	m.since = now
	if most := now.Add(meterBurst - room); m.paid.Before(most) {
		m.paid = most
	}
}

// tariff says what an event costs. A negative rate costs nothing.
type tariff struct {
	event       time.Duration // the least, for a small one
	bytesPerSec int64
}

func newTariff(eventsPerSecond float64, bytesPerSecond int64) tariff {
	t := tariff{bytesPerSec: bytesPerSecond}
	if eventsPerSecond > 0 {
		t.event = time.Duration(float64(time.Second) / eventsPerSecond)
	}
	return t
}

func (t tariff) cost(size int) time.Duration {
	if t.bytesPerSec <= 0 {
		return t.event
	}
	return max(t.event, time.Duration(int64(size)*int64(time.Second)/t.bytesPerSec))
}

// verdict is what becomes of a message.
type verdict int

const (
	verdictTake     verdict = iota
	verdictCanary           // this node's message to itself
	verdictUnwanted         // dropped: nobody here wants its group
	verdictShed             // dropped: its organization is over its budget
	verdictPause            // dropped for the same reason, as the first of its group
	verdictHeld             // kept until what its group missed has been handed over
	verdictKnown            // dropped: it was handed over when its group caught up
	verdictRepeated         // dropped: it was handed over under another position
	verdictDenied           // likewise, but to members that have joined since it is a gap
	verdictLost             // to be taken, after a gap: the history that the group followed is gone
)

// admit judges a message before anything is spent on decoding it. g is zero if its group is
// unknown.
func (r *Receiver) admit(l *link, channel string, head event.Head, object string, now time.Time) (g event.Group, v verdict) {
	l.lastReceived = now
	s := r.subs[channel]
	switch {
	case channel == l.canary:
		return event.Group{}, verdictCanary
	case s == nil || s.link != l && !s.paused:
		return event.Group{}, verdictUnwanted
	case s.count == 0:
		if s.state == stateOn && !s.paused { // who comes back now has not missed it
			s.note(head)
		}
		return s.group, verdictUnwanted
	case s.paused:
		s.place.transient = s.place.transient || head.Position.IsZero()
		return s.group, verdictShed // what was on its way when the group was paused
	case s.state != stateOn:
		return s.group, verdictUnwanted
	case s.meter.spend(now, r.tariff.cost(len(object))):
		return s.group, s.take(head, object, now)
	}
	s.place.transient = s.place.transient || head.Position.IsZero()
	r.pause(l, s)
	return s.group, verdictPause
}

// pause ends a subscription for a while, because its organization is over its budget and it was
// its event that found nothing left: most likely a group that has a large part in it. Shedding in
// this process alone would leave the flood on the link that all organizations share.
func (r *Receiver) pause(l *link, s *subscription) {
	s.paused = true
	s.missed = true
	s.stopCatching()
	l.paused = append(l.paused, s)
	r.paused++
	r.settle(s)
}

// schedule decides how long the pause lasts. wait is how long the confirmation of UNSUBSCRIBE took
// to come: everybody's events stood in the same line.
func (r *Receiver) schedule(s *subscription, now time.Time, wait time.Duration) {
	s.pause = min(max(pauseFactor*wait, minPause), maxPause)
	s.resumeAt = now.Add(s.pause + time.Duration(r.rand(int64(s.pause/2))))
}

// resume takes up the paused groups whose time has come, and reports whether any is still paused.
// A group stays paused until its UNSUBSCRIBE is confirmed: only a new SUBSCRIBE brings the gap.
func (r *Receiver) resume(l *link, now time.Time) (waiting bool) {
	kept := l.paused[:0]
	for _, s := range l.paused {
		if s.state != stateOff || now.Before(s.resumeAt) || !s.meter.hasRoom(now) {
			kept = append(kept, s)
			continue
		}
		s.meter.takeUp(now, s.pause)
		r.unpause(s)
		r.settle(s)
	}
	clear(l.paused[len(kept):])
	l.paused = kept
	return len(kept) > 0
}

// unpause makes those who join the group from now on wait for its confirmation.
func (r *Receiver) unpause(s *subscription) {
	s.paused = false
	s.confirmed = make(chan struct{})
	r.paused--
}

// meterOf returns the meter of the group's organization for one more subscription.
func (r *Receiver) meterOf(g event.Group) *meter {
	m := r.meters[g.Organization()]
	if m == nil {
		m = new(meter)
		r.meters[g.Organization()] = m
	}
	m.subs++
	return m
}

// forget drops a subscription that is over, and with an organization's last one its meter.
func (r *Receiver) forget(s *subscription) {
	s.place.seen.forget(s.meter)
	delete(r.subs, s.channel)
	s.meter.shown.forget(&s.shown)
	if s.meter.subs--; s.meter.subs == 0 {
		delete(r.meters, s.group.Organization())
	}
}
