package roster

import (
	"time"

	"orgcast/internal/event"
)

// Verdict says what happens to a message.
type Verdict int

// Verdicts.
const (
	// Deliver: it is delivered.
	Deliver Verdict = iota
	// Unwanted: it is dropped, because this node does not want its group.
	Unwanted
	// Shed: it is dropped, because its organization is over its budget.
	Shed
	// Pause: like Shed, and the group was paused for it.
	Pause
	// Hold: it waits until the events that its group missed have been delivered.
	Hold
	// Known: it is dropped, because it was delivered when its group caught up.
	Known
	// Repeated: it is dropped, because it was delivered under another position.
	Repeated
	// Denied: it is Repeated, but replaced by a gap for members that have joined since.
	Denied
	// Lost: it is delivered after a gap, because the history that the group followed was lost.
	Lost
)

// Judge decides what happens to a message of a link before it is decoded. g is zero if its group is
// unknown.
func (r *Roster) Judge(l *Link, channel string, head event.Head, object string, now time.Time) (g event.Group, v Verdict) {
	s := r.subs[channel]
	switch {
	case s == nil || s.link != l && !s.paused:
		return event.Group{}, Unwanted
	case s.count == 0:
		if s.state == stateOn && !s.paused { // a member that joins now has not missed it
			s.note(head)
		}
		return s.group, Unwanted
	case s.paused:
		s.cursor.carried(head)
		return s.group, Shed // it was on its way when the group was paused
	case s.state != stateOn:
		return s.group, Unwanted
	case s.budget.spend(now, r.tariff.cost(len(object))):
		return s.group, s.judge(head, object, now)
	}
	s.cursor.carried(head)
	r.pauseNow(l, s, now)
	return s.group, Pause
}
