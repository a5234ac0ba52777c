package roster

import (
	"time"

	"orgcast/internal/event"
)

const (
	// A pause is pauseFactor times as long as the events of other organizations had to wait when it
	// began. So however long a flood lasts, well under one percent of their events wait, and their
	// p99 does not change.
	pauseFactor = 400
	minPause    = 200 * time.Millisecond
	maxPause    = 10 * time.Second // jitter adds up to half
)

// pauseNow unsubscribes a group for a while, because its organization is over its budget and the
// group's event found nothing left: most likely it is one of the groups with the most events.
// Dropping events in this process alone would leave the flood on the link that all organizations
// share.
func (r *Roster) pauseNow(l *Link, s *subscription, now time.Time) {
	s.paused = true
	s.missed = true
	s.stopCatching()
	l.paused = append(l.paused, s)
	r.paused++
	r.settle(s, now)
}

// schedule sets the length of a pause. wait is how long Redis took to confirm UNSUBSCRIBE, which is
// how long everyone's events waited on the link.
func (r *Roster) schedule(s *subscription, now time.Time, wait time.Duration) {
	s.pause = min(max(pauseFactor*wait, minPause), maxPause)
	s.resumeAt = now.Add(s.pause + time.Duration(r.opt.Rand(int64(s.pause/2))))
}

// Resume resumes the paused groups of a link that are due, and reports whether any are still
// paused. A group stays paused until its UNSUBSCRIBE is confirmed, because only a new SUBSCRIBE
// makes it catch up or get its gap.
func (r *Roster) Resume(l *Link, now time.Time) (waiting bool) {
	kept := l.paused[:0]
	for _, s := range l.paused {
		if s.state != stateOff || now.Before(s.resumeAt) || !s.budget.hasRoom(now) {
			kept = append(kept, s)
			continue
		}
		s.budget.resume(now, s.pause)
		r.unpause(s)
		r.settle(s, now)
	}
	clear(l.paused[len(kept):])
	l.paused = kept
	return len(kept) > 0
}

// unpause ends a pause: from now on, new members wait for the group's confirmation.
func (r *Roster) unpause(s *subscription) {
	s.paused = false
	r.paused--
}

// LogPause reports whether to log that a group was paused, and how many such lines were suppressed.
// Lines are rare for each organization, because many of its groups may be paused.
func (r *Roster) LogPause(g event.Group, now time.Time) (suppressed int, ok bool) {
	b := r.budgets[g.Organization()]
	if b == nil { // its last subscription has ended meanwhile
		return 0, false
	}
	return b.pauses.Allow(now)
}
