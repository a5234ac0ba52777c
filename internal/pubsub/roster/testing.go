package roster

import (
	"time"

	"orgcast/internal/event"
)

// This file is for tests of packages that have a roster.

// Size is how much a roster remembers.
type Size struct {
	Subscriptions int // wanted or in progress
	Organizations int // that have a budget
}

// Size returns how much the roster remembers.
func (r *Roster) Size() Size { return Size{Subscriptions: len(r.subs), Organizations: len(r.budgets)} }

// Pause pauses a subscribed group as if its organization were over its budget.
func (r *Roster) Pause(g event.Group, now time.Time) {
	if s := r.subs[r.opt.Keys.GroupChannel(g)]; s != nil && s.isWanted() && s.state == stateOn {
		r.pauseNow(s.link, s, now)
	}
}

// EndPauses makes the pauses of a link due whose UNSUBSCRIBE is confirmed, and returns how many
// paused groups there are.
func (r *Roster) EndPauses(l *Link) int {
	for _, s := range l.paused {
		s.resumeAt = time.Time{}
	}
	return len(l.paused)
}

// SeenLimit is the upper bound of SeenBytes.
const SeenLimit = seenBytes

// SeenBytes returns how many bytes of positions the groups of an organization remember.
func (r *Roster) SeenBytes(g event.Group) int {
	if b := r.budgets[g.Organization()]; b != nil {
		return b.seen
	}
	return 0
}
