package event

import (
	"bytes"
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
	shows  bool // frames show positions

	positioned *positioned // the other shape, nil if it would be the same

	deflate  sync.Once
	deflated []byte // made by deflate
}

// positioned is the shape of a burst that shows positions, for receivers that know them.
type positioned struct {
	once  sync.Once
	burst Burst // made by once
}

// NewBurst joins events from the front of the list: as many as have the group and the organization
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
		if e.alone.positioned != nil && b.positioned == nil {
			b.positioned = new(positioned)
		}
	}
	return b, list[n:]
}

// Positioned returns the burst with frames in which each recorded event has two more fields, the
// last ones: "group", and "id" with its position. It is made once, at the first call, and shared
// like the burst, which without recorded events is returned itself.
func (b *Burst) Positioned() *Burst {
	p := b.positioned
	if p == nil {
		return b
	}
	p.once.Do(func() {
		p.burst.group, p.burst.org, p.burst.events, p.burst.shows = b.group, b.org, b.events, true
		if len(b.events) == 1 {
			p.burst.frames = b.events[0].positionedFrame()
			return
		}
		for _, e := range b.events {
			p.burst.frames = append(p.burst.frames, e.Alone().Positioned().frames...)
		}
	})
	return &p.burst
}

// positionedFrame returns the frame of a recorded event with its group and position. Neither holds
// a character that JSON escapes, and the object is not empty: it has a type.
func (e *Event) positionedFrame() []byte {
	const group, id, end = `,"group":"`, `","id":"`, `"}`
	payload := e.Payload()
	fields := payload[:bytes.LastIndexByte(payload, '}')]
	name := e.group.Name()
	position := e.position.AppendTo(make([]byte, 0, maxPositionLength))
	frame, header := newTextFrame(len(fields) + len(group) + len(name) + len(id) + len(position) + len(end))
	b := append(frame[:header], fields...)
	b = append(b, group...)
	b = append(b, name...)
	b = append(b, id...)
	b = append(b, position...)
	return append(b, end...)
}

// Alone returns the burst that holds just this event.
func (e *Event) Alone() *Burst { return &e.alone }

// Group returns the group of the events.
func (b *Burst) Group() Group { return b.group }

// Organization returns the organization that the payload of every event in the burst names.
func (b *Burst) Organization() orgctx.ID { return b.org }

// Events returns the events in order. The caller must not change the list.
func (b *Burst) Events() []*Event { return b.events }

// Frames returns the WebSocket frames of the events in a row. The caller must not change them.
func (b *Burst) Frames() []byte { return b.frames }
