package roster

import (
	"time"

	"orgcast/internal/event"
)

// RoomAfter returns how much an organization may use after a pause. Before the pause it spent all
// it had, over the time given and in that many equal steps.
func RoomAfter(over time.Duration, steps int, pause time.Duration) time.Duration {
	var b budget
	start := time.Now()
	now := start
	for i := 0; b.spend(now, (burst+over)/time.Duration(steps)); i++ {
		now = start.Add(over * time.Duration(i+1) / time.Duration(steps))
	}
	back := now.Add(pause)
	b.resume(back, pause)
	return burst - b.paid.Sub(back)
}

// The bounds of what is remembered about keyed events.
const (
	ShownPerGroup        = shownPerGroup
	ShownPerOrganization = shownPerOrganization
)

// Shown is a shown whose groups have numbers.
type Shown struct {
	shown  shown
	groups map[int]*shownGroup
}

func (s *Shown) group(n int) *shownGroup {
	if s.groups == nil {
		s.groups = make(map[int]*shownGroup)
	}
	if s.groups[n] == nil {
		s.groups[n] = new(shownGroup)
	}
	return s.groups[n]
}

// Add remembers an event.
func (s *Shown) Add(group int, h event.Head) { s.shown.add(s.group(group), h, 0) }

// Repeats reports whether an event was shown under another position.
func (s *Shown) Repeats(group int, h event.Head) bool {
	return s.shown.repeats(s.group(group), h) != nil
}

// Forget forgets a group.
func (s *Shown) Forget(group int) { s.shown.forget(s.group(group)) }

// Len returns how many events are remembered.
func (s *Shown) Len() int { return len(s.shown.places) }
