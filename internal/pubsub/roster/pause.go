package roster

import (
	"time"

	"orgcast/internal/event"
)

const (
	// A pause is pauseFactor times as long as the others' events had to wait when it began: however
	// long the flood lasts, well under one in a hundred of them has to, so their p99 stays.
	pauseFactor = 400
	minPause    = 200 * time.Millisecond
	maxPause    = 10 * time.Second // half as much again with its jitter
)

// pauseNow ends a subscription for a while, because its organization is over its budget and it was
// its event that found nothing left: most likely a group that has a large part in it. Shedding in
// this process alone would leave the flood on the link that all organizations share.
func (r *Roster) pauseNow(l *Link, s *subscription, now time.Time) {
	s.paused = true
	s.missed = true
	s.stopCatching()
	l.paused = append(l.paused, s)
	r.paused++
	r.settle(s, now)
}

// schedule decides how long a pause lasts. wait is how long the confirmation of UNSUBSCRIBE took
// to come: everybody's events stood in the same line.
func (r *Roster) schedule(s *subscription, now time.Time, wait time.Duration) {
	s.pause = min(max(pauseFactor*wait, minPause), maxPause)
	s.resumeAt = now.Add(s.pause + time.Duration(r.opt.Rand(int64(s.pause/2))))
}

// Resume takes up the paused groups of a link whose time has come, and reports whether any is still
// paused. A group stays paused until its UNSUBSCRIBE is confirmed: only a new SUBSCRIBE brings the
// gap.
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

// unpause makes those who join the group from now on wait for its confirmation.
func (r *Roster) unpause(s *subscription) {
	s.paused = false
	r.paused--
}

// LogPause reports whether to log that a group was paused, and how many such lines were held back:
// rarely for each organization, since many of its groups may be.
func (r *Roster) LogPause(g event.Group, now time.Time) (suppressed int, ok bool) {
	b := r.budgets[g.Organization()]
	if b == nil { // its last subscription has ended meanwhile
		return 0, false
	}
	return b.pauses.Allow(now)
}
