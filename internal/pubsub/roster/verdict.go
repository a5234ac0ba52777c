package roster

import (
	"time"

	"orgcast/internal/event"
)

// Verdict is what becomes of a message.
type Verdict int

// Verdicts.
const (
	// Deliver: it is handed over.
	Deliver Verdict = iota
	// Unwanted: it is dropped, because nobody here wants its group.
	Unwanted
	// Shed: it is dropped, because its organization is over its budget.
	Shed
	// Pause: it is dropped for the same reason, as the first of its group.
	Pause
	// Hold: it is kept until what its group missed has been handed over.
	Hold
	// Known: it is dropped, because it was handed over when its group caught up.
	Known
	// Repeated: it is dropped, because it was handed over under another position.
	Repeated
	// Denied: likewise, but to members that have joined since it is a gap.
	Denied
	// Lost: it is handed over after a gap, because the history that the group followed is gone.
	Lost
)

// Judge says what becomes of a message that a link brings, before anything is spent on decoding it.
// g is zero if its group is unknown.
func (r *Roster) Judge(l *Link, channel string, head event.Head, object string, now time.Time) (g event.Group, v Verdict) {
	s := r.subs[channel]
	switch {
	case s == nil || s.link != l && !s.paused:
		return event.Group{}, Unwanted
	case s.count == 0:
		if s.state == stateOn && !s.paused { // who comes back now has not missed it
			s.note(head)
		}
		return s.group, Unwanted
	case s.paused:
		s.cursor.carried(head)
		return s.group, Shed // what was on its way when the group was paused
	case s.state != stateOn:
		return s.group, Unwanted
	case s.budget.spend(now, r.tariff.cost(len(object))):
		return s.group, s.judge(head, object, now)
	}
	s.cursor.carried(head)
	r.pauseNow(l, s, now)
	return s.group, Pause
}
