package event

import (
	"sync"

	"orgcast/internal/orgctx"
)

// Burst is a run of events of one group, in order, whose frames lie in a row so that one write
// carries them all. It is immutable and shared by all receivers.
type Burst struct {
	group  Group
	org    orgctx.ID // that every payload names
	events []*Event
	frames []byte

	deflate  sync.Once
	deflated []byte // made by deflate
}

// NewBurst joins events from the front of the list: as many as have the group and the organisation
// of the first one, and whose frames together stay within limit bytes; at least one. It returns
// the rest. The list must not be empty, and belongs to the burst from then on.
func NewBurst(list []*Event, limit int) (b *Burst, rest []*Event) {
	first := list[0]
	n, size := 1, len(first.frame)
	for n < len(list) && list[n].group == first.group && list[n].org == first.org && size+len(list[n].frame) <= limit {
		size += len(list[n].frame)
		n++
	}
	if n == 1 {
		return first.Alone(), list[1:]
	}
	b = &Burst{group: first.group, org: first.org, events: list[:n:n], frames: make([]byte, 0, size)}
	for _, e := range b.events {
		b.frames = append(b.frames, e.frame...)
	}
	return b, list[n:]
}

// Alone returns the burst that holds just this event.
func (e *Event) Alone() *Burst { return &e.alone }

// Group returns the group of the events.
func (b *Burst) Group() Group { return b.group }

// Organization returns the organisation that the payload of every event in the burst names.
func (b *Burst) Organization() orgctx.ID { return b.org }

// Events returns the events in order. The caller must not change the list.
func (b *Burst) Events() []*Event { return b.events }

// Frames returns the WebSocket frames of the events in a row. The caller must not change them.
func (b *Burst) Frames() []byte { return b.frames }
