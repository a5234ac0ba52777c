package roster

import (
	"time"

	"orgcast/internal/event"
	"orgcast/internal/loglimit"
)

const (
	// burst is how much of its budget an organization can save up, in time. A flood uses it all at
	// once, and meanwhile fills the buffer that Redis keeps for this subscriber. With the default
	// budget, one second's worth reached the 32 MB at which Redis disconnects a subscriber.
	burst = 250 * time.Millisecond
	// resumeRoom is how much the organization must have saved before one of its groups resumes.
	resumeRoom = burst / 2
	// minRoom is the least that a group may use when it resumes after the shortest pause.
	minRoom = time.Millisecond
)

// budget is what one organization has used of its budget. All its subscriptions share it. It is
// measured in time: an event costs as long as the budget takes to earn it.
type budget struct {
	subs  int   // how many subscriptions share it
	shown shown // events that its groups have delivered under idempotency keys
	seen  int   // bytes of the positions that its groups remember
	// paid is the moment until which the budget is spent. It is full if paid is past, and empty if
	// paid is burst ahead.
	paid time.Time
	// since is when the current spell of spending began. lasted is how long the savings lasted in
	// it.
	since  time.Time
	lasted time.Duration
	pauses loglimit.Limiter // limits the log lines about paused groups
}

// spend charges the cost of one event to the budget. It reports false if the budget was used up.
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

// hasRoom reports whether the organization has saved enough for a group to resume.
func (b *budget) hasRoom(now time.Time) bool { return b.paid.Sub(now) <= burst-resumeRoom }

// resume lets a group resume after a pause. The longer the pause and the faster the organization
// used up its savings, the less it may send before it is paused again. An organization slightly
// over its budget gets all its savings back. A flood gets just enough to show whether it continues.
func (b *budget) resume(now time.Time, pause time.Duration) {
	room := time.Duration(float64(min(max(b.lasted, minRoom), burst)) * float64(minPause) / float64(pause))
	b.since = now
	if most := now.Add(burst - room); b.paid.Before(most) {
		b.paid = most
	}
}

// tariff tells what an event costs. A limit that is not positive costs nothing.
type tariff struct {
	event       time.Duration // the cost of a small event, the minimum
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
