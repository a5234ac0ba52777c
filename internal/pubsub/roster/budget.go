package roster

import (
	"time"

	"orgcast/internal/event"
	"orgcast/internal/loglimit"
)

const (
	// burst is how much an organization may save up, in time of its budget. A flood comes at once
	// until that is used up, and meanwhile fills what Redis keeps for this subscriber: with the
	// default budget a second's worth was seen to reach the 32 MB at which Redis ends it.
	burst = 250 * time.Millisecond
	// resumeRoom is how much of that it must have saved before a group of it is taken up again.
	resumeRoom = burst / 2
	// minRoom is the least that a group has when it comes back after the shortest pause.
	minRoom = time.Millisecond
)

// budget is what one organization has used of its budget. Its subscriptions share it. It counts in
// time: an event costs as long as the budget takes to earn it.
type budget struct {
	subs  int   // that share it
	shown shown // what they have shown under idempotency keys
	seen  int   // bytes of the positions that they remember
	// paid is the moment until which the budget is spent: full before now, empty burst later.
	paid time.Time
	// since is when it began to spend what it had, and lasted how long that was enough for.
	since  time.Time
	lasted time.Duration
	pauses loglimit.Limiter // of the log lines about its groups
}

// spend takes the cost of one event from the budget and reports whether there was anything left.
func (b *budget) spend(now time.Time, cost time.Duration) bool {
	switch used := b.paid.Sub(now); {
	case used >= burst:
		b.lasted = now.Sub(b.since)
		return false
	case used < 0:
		b.since = now
		b.paid = now.Add(cost)
	default:
		b.paid = b.paid.Add(cost)
	}
	return true
}

// owe charges the budget for events read from a history.
func (b *budget) owe(now time.Time, t tariff, events []*event.Event) {
	for _, e := range events {
		if b.paid.Before(now) {
			b.paid = now
		}
		b.paid = b.paid.Add(t.cost(len(e.Payload())))
	}
}

// hasRoom reports whether a group of the organization may come back.
func (b *budget) hasRoom(now time.Time) bool { return b.paid.Sub(now) <= burst-resumeRoom }

// resume lets a group come back, after a pause that may have been longer than the shortest. The
// more the organization delayed others, and the faster it used up what it had, the less it may send
// before it is paused again: who only exceeds its budget has all of it, a flood what it takes to
// see that it goes on.
func (b *budget) resume(now time.Time, pause time.Duration) {
	room := time.Duration(float64(min(max(b.lasted, minRoom), burst)) * float64(minPause) / float64(pause))
	b.since = now
	if most := now.Add(burst - room); b.paid.Before(most) {
		b.paid = most
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
