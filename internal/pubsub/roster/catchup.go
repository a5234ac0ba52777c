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

// Mark returns what the group was handed last: its history is to be read from there.
func (b Behind) Mark() event.Mark { return b.mark }

// isCurrent reports whether the group still waits for this catching up.
func (b Behind) isCurrent() bool { return b.sub.cursor.round == b.round }

// Unlocated returns the groups of commands whose place in their history is not known. Their newest
// positions are to be read before the commands are sent, and handed to [Roster.Locate].
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

// Locate takes note of the newest positions of the histories of groups. Where known is false they
// could not be read, and losses of the group will be gaps.
func (r *Roster) Locate(groups []event.Group, marks []event.Mark, known []bool) {
	for i, g := range groups {
		if s := r.subs[r.opt.Keys.GroupChannel(g)]; s != nil && s.state == stateSent && !s.cursor.known {
			s.cursor.known, s.cursor.mark = known[i], marks[i]
			s.cursor.lost = s.missed
		}
	}
}

// Behind takes up to so many groups of a link that have to catch up.
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

// Remembered returns the newest positions that the group was handed, oldest first: for when the
// mark is not in its history.
func (r *Roster) Remembered(b Behind) []event.Position {
	if !b.isCurrent() {
		return nil
	}
	return b.sub.cursor.seen.list()
}

// Answer is what a history says of what a group has missed.
type Answer struct {
	Events   []*event.Event
	Complete bool // these are all
	Failed   bool // the history could not be read
}

// HandOver begins to hand over what a group has missed, and reports whether its members are to be
// told of a gap first: that may not be everything. Then [Roster.CaughtUp] follows for each event of
// the answer, and [Roster.FirstHeld] and [Roster.Release] for what was held meanwhile. All end
// early if the group is paused, moved or left.
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

// CaughtUp judges the next event of a history. more is false if the group does not wait for it any
// more. It is to be asked in its turn to deliver: what another link brings after the group has
// moved there comes after this.
func (r *Roster) CaughtUp(b Behind, h event.Head) (v Verdict, more bool) {
	s := b.sub
	if !b.isCurrent() || s.count == 0 {
		return Unwanted, false
	}
	s.advance(h.Position)
	s.cursor.passed = h.Position
	return s.show(h), true
}

// FirstHeld returns the first event that is held. ok is false without one: the group has caught up,
// or does not wait for this any more, or has to read its history again.
func (r *Roster) FirstHeld(b Behind) (h Held, ok bool) {
	s, c := b.sub, &b.sub.cursor
	if !b.isCurrent() {
		return Held{}, false
	}
	if c.spilled && s.count > 0 { // what was held and more is in the history
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

// Release judges the event that FirstHeld returned, and takes it. Like CaughtUp it is to be asked
// in its turn.
func (r *Roster) Release(b Behind) (v Verdict, more bool) {
	s, c := b.sub, &b.sub.cursor
	if !b.isCurrent() {
		return Unwanted, false
	}
	v = Hold
	if !c.spilled {
		h := c.held[0] // still the one that FirstHeld returned: nobody else takes from it
		c.dropFirst()
		v = s.note(h.Head)
	}
	if s.count == 0 {
		return Unwanted, true
	}
	return v, true
}
