package event

import "orgcast/internal/orgctx"

// Burst is a run of events of one group, in order, that one write carries. It is immutable and shared
// by all receivers, and so is what encodings make of it.
type Burst struct {
	group  Group
	org    orgctx.ID // that every payload names
	events []*Event
	table  table
}

// NewBurst joins events from the front of the list: as many as have the group and the organization
// of the first one, and whose payloads together stay within limit bytes; at least one. It returns
// the rest. The list must not be empty, and belongs to the burst from then on.
func NewBurst(list []*Event, limit int) (b *Burst, rest []*Event) {
	first := list[0]
	n, size := 1, first.Size()
	for n < len(list) && list[n].group == first.group && list[n].org == first.org && size+list[n].Size() <= limit {
		size += list[n].Size()
		n++
	}
	if n == 1 {
		return first.Alone(), list[1:]
	}
	b = &Burst{group: first.group, org: first.org, events: list[:n:n]}
	return b, list[n:]
}

// Alone returns the burst that holds just this event.
func (e *Event) Alone() *Burst { return &e.alone }

// Group returns the group of the events.
func (b *Burst) Group() Group { return b.group }

// Organization returns the organization that the payload of every event in the burst names.
func (b *Burst) Organization() orgctx.ID { return b.org }

// Events returns the events in order. The caller must not change the list.
func (b *Burst) Events() []*Event { return b.events }

// Size returns how many bytes the payloads have together.
func (b *Burst) Size() (size int) {
	for _, e := range b.events {
		size += e.Size()
	}
	return size
}
