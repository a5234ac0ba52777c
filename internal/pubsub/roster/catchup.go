package roster

import (
	"time"

	"orgcast/internal/event"
)

// Behind is a group that has to catch up.
type Behind struct {
	sub   *subscription
	link  *Link
	round int
	mark  event.Mark
}

// Group returns the group.
func (b Behind) Group() event.Group { return b.sub.group }

// Mark returns the mark of the last event delivered to the group. Its history is read from there.
func (b Behind) Mark() event.Mark { return b.mark }

// isCurrent reports whether the group still waits for this round of catching up.
func (b Behind) isCurrent() bool { return b.sub.cursor.round == b.round }

// Unlocated returns the groups in commands whose mark is not known. The caller reads the newest
// positions of their histories before it sends the commands, and passes them to [Roster.Locate].
func (r *Roster) Unlocated(commands []Command) (groups []event.Group) {
	for _, c := range commands {
		for _, channel := range c.Channels {
			if s := r.subs[channel]; s != nil && s.state == stateSent && !s.cursor.known {
				groups = append(groups, s.group)
			}
		}
	}
	return groups
}

// Locate sets the marks of groups to the newest positions of their histories. Where known is false,
// the position could not be read, and the group gets a gap if it loses events before one arrives.
func (r *Roster) Locate(groups []event.Group, marks []event.Mark, known []bool) {
	for i, g := range groups {
		if s := r.subs[r.opt.Keys.GroupChannel(g)]; s != nil && s.state == stateSent && !s.cursor.known {
			s.cursor.known, s.cursor.mark = known[i], marks[i]
			s.cursor.lost = s.missed
		}
	}
}

// Behind takes up to most groups of a link that have to catch up.
func (r *Roster) Behind(l *Link, most int) (batch []Behind) {
	for len(batch) < most {
		b, ok := l.behind.pop()
		if !ok {
			break
		}
		if b.isCurrent() {
			b.mark = b.sub.cursor.mark
			batch = append(batch, b)
		}
	}
	return batch
}

// Remembered returns the newest positions delivered to the group, oldest first. They are needed if
// the mark is not in its history.
func (r *Roster) Remembered(b Behind) []event.Position {
	if !b.isCurrent() {
		return nil
	}
	return b.sub.cursor.seen.list()
}

// Answer is what a history returned for a group that missed events.
type Answer struct {
	Events   []*event.Event
	Complete bool // Events are all the missed ones
	Failed   bool // the history could not be read
}

// HandOver begins to deliver the events that a group missed. It reports whether the group must be
// told of a gap first, because events may be missing from the answer. The caller then calls
// [Roster.CaughtUp] for each event of the answer, and [Roster.FirstHeld] and [Roster.Release] for
// the held messages. All of them stop early if the group is paused, moved or left.
func (r *Roster) HandOver(b Behind, a Answer, now time.Time) (gap bool) {
	s := b.sub
	if !b.isCurrent() || s.count == 0 {
		return false
	}
	gap = a.Failed || !a.Complete || s.cursor.transient || b.mark.Position.IsZero() && len(a.Events) == 0
	s.missed = false
	s.cursor.broken = gap && !a.Complete
	s.budget.owe(now, r.tariff, a.Events)
	return gap
}

// CaughtUp judges the next event of a history. more is false if the group no longer waits for it.
// Call it when it is this event's turn for delivery: if the group has moved, events of its new link
// must come after this one.
func (r *Roster) CaughtUp(b Behind, h event.Head) (v Verdict, more bool) {
	s := b.sub
	if !b.isCurrent() || s.count == 0 {
		return Unwanted, false
	}
	s.advance(h.Position)
	s.cursor.passed = h.Position
	return s.show(h), true
}

// FirstHeld returns the first held event. ok is false if there is none: the group has caught up, no
// longer waits for this, or has to read its history again.
func (r *Roster) FirstHeld(b Behind) (h Held, ok bool) {
	s, c := b.sub, &b.sub.cursor
	if !b.isCurrent() {
		return Held{}, false
	}
	if c.spilled && s.count > 0 { // the history has the held events and more
		s.missed = true
		s.startCatching(b.link)
		return Held{}, false
	}
	for len(c.held) > 0 {
		if h := c.held[0]; !c.knows(h.Head) {
			return h, true
		}
		c.dropFirst()
	}
	c.catching = false
	return Held{}, false
}

// Release judges the event that FirstHeld returned, and removes it. Like CaughtUp, call it when it
// is this event's turn for delivery.
func (r *Roster) Release(b Behind) (v Verdict, more bool) {
	s, c := b.sub, &b.sub.cursor
	if !b.isCurrent() {
		return Unwanted, false
	}
	v = Hold
	if !c.spilled {
		h := c.held[0] // the one that FirstHeld returned: only this caller removes held events
		c.dropFirst()
		v = s.note(h.Head)
	}
	if s.count == 0 {
		return Unwanted, true
	}
	return v, true
}
