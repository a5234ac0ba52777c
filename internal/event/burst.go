package event

import "orgcast/internal/orgctx"

// Burst is a run of events of one group, in order, for one write. All receivers share it and its
// encoded forms, so both are immutable.
type Burst struct {
	events []*Event // of one group, whose payloads name one organization; at least one
	forms  forms
	// watchers are those of all events, in no order.
	watchers []Watcher
}

// NewBurst joins events from the front of the list into a burst. It takes at least one event, and
// further ones while they have the same group and organization and fit into limit bytes of payload
// together. It returns the rest. The list must not be empty, and belongs to the burst afterwards.
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
	b = &Burst{events: list[:n:n]}
	for _, e := range b.events {
		b.watchers = append(b.watchers, e.alone.watchers...)
	}
	return b, list[n:]
}

// Alone returns the burst of this event alone.
func (e *Event) Alone() *Burst { return &e.alone }

// Group returns the group of the events.
func (b *Burst) Group() Group { return b.events[0].group }

// Organization returns the organization that the payload of every event in the burst names.
func (b *Burst) Organization() orgctx.ID { return b.events[0].org }

// Events returns the events in order. The caller must not change the list.
func (b *Burst) Events() []*Event { return b.events }

// Size returns the total length of the payloads in bytes.
func (b *Burst) Size() (size int) {
	for _, e := range b.events {
		size += e.Size()
	}
	return size
}
