package pubsub

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"orgcast/internal/event"
)

// histories holds the recorded events of a [Memory].
type histories struct {
	mu     sync.Mutex // held while an event is sent, so that history and channel agree in order
	groups map[event.Group]*history
	once   map[onceKey]onceValue
	sweep  int    // size at which to look for expired entries
	newest uint64 // milliseconds of the newest position, in case the clock goes back
}

// history is the history of one group.
type history struct {
	events  []*event.Event
	last    event.Position
	dropped bool // events were dropped for their age or number
	expires time.Time
}

// onceKey is an idempotency key in use.
type onceKey struct {
	group event.Group
	key   string
}

// onceValue is the position recorded under an idempotency key.
type onceValue struct {
	position event.Position
	expires  time.Time
}

// Record is like [Publisher.Record]. If it fails, nothing was recorded.
func (m *Memory) Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error) {
	if err := (event.Publication{Group: g, Payload: payload, Record: &o}).Check(event.DefaultMaxSize); err != nil {
		return event.Position{}, err
	}
	o = o.WithDefaults()
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	now := time.Now()
	m.histories.forget(now)
	key := onceKey{g, o.IdempotencyKey}
	if first, ok := m.histories.once[key]; ok && now.Before(first.expires) {
		return first.position, nil
	}
	h := m.histories.of(g, now)
	if h == nil {
		h = new(history)
	}
	m.histories.newest = max(m.histories.newest, uint64(now.UnixMilli()))
	position := event.NewPosition(m.histories.newest, 0)
	if position.Compare(h.last) <= 0 {
		position = event.NewPosition(h.last.Milliseconds(), h.last.Sequence()+1)
	}
	head := event.Head{Position: position}
	if o.IdempotencyKey != "" {
		head.Key = event.HashKey(o.IdempotencyKey)
	}
	e, err := event.DecodeObject(g, head, string(payload), event.DefaultMaxSize, now)
	if err != nil {
		return event.Position{}, err
	}
	if err := m.send(ctx, e); err != nil {
		return event.Position{}, err
	}
	oldest := position.Milliseconds() - min(position.Milliseconds(), uint64(o.MaxAge.Milliseconds())) //nolint:gosec // positive
	before := len(h.events)
	h.events = slices.DeleteFunc(h.events, func(e *event.Event) bool { return e.Position().Milliseconds() < oldest })
	h.events = append(h.events, e)
	h.events = h.events[max(0, len(h.events)-o.MaxLength):]
	h.dropped = h.dropped || len(h.events) <= before
	h.last, h.expires = position, now.Add(o.MaxAge)
	m.histories.groups[g] = h
	if o.IdempotencyKey != "" {
		m.histories.once[key] = onceValue{position: position, expires: h.expires}
	}
	return position, nil
}

// of returns the history of a group, nil if there is none or it has expired. h.mu is held.
func (h *histories) of(g event.Group, now time.Time) *history {
	if found := h.groups[g]; found != nil && now.Before(found.expires) {
		return found
	}
	return nil
}

// forget drops expired entries whenever there are twice as many entries as after the last time.
// h.mu is held.
func (h *histories) forget(now time.Time) {
	if len(h.groups)+len(h.once) < h.sweep {
		return
	}
	maps.DeleteFunc(h.groups, func(_ event.Group, h *history) bool { return !now.Before(h.expires) })
	maps.DeleteFunc(h.once, func(_ onceKey, v onceValue) bool { return !now.Before(v.expires) })
	h.sweep = max(1024, 2*(len(h.groups)+len(h.once)))
}

// History is like [Histories.History].
func (m *Memory) History(_ context.Context, g event.Group, n int) ([]*event.Event, error) {
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	h := m.histories.of(g, time.Now())
	if h == nil || n <= 0 {
		return nil, nil
	}
	events := h.events[max(0, len(h.events)-n):]
	bytes := 0
	for i, e := range slices.Backward(events) {
		if bytes += len(e.Payload()); bytes > HistoryBytes && i < len(events)-1 {
			events = events[i+1:]
			break
		}
	}
	return slices.Clone(events), nil
}

// Before is like [Histories.Before].
func (m *Memory) Before(_ context.Context, g event.Group, before event.Position, limit, bytes int) (events []*event.Event, more bool, err error) {
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	h := m.histories.of(g, time.Now())
	if h == nil || limit <= 0 {
		return nil, false, nil
	}
	end := len(h.events)
	if !before.IsZero() {
		end, _ = slices.BinarySearchFunc(h.events, before, func(e *event.Event, p event.Position) int { return e.Position().Compare(p) })
	}
	begin := end
	for begin > max(end-limit, 0) {
		if bytes -= len(h.events[begin-1].Payload()); bytes < 0 && begin < end {
			break
		}
		begin--
	}
	return slices.Clone(h.events[begin:end]), begin > 0, nil
}

// Resume is like [Histories.Resume].
func (m *Memory) Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error) {
	events, complete, err = m.Since(ctx, g, after.Position, limit)
	for i, e := range slices.Backward(events) {
		if bytes -= len(e.Payload()); bytes < 0 && i < len(events)-1 {
			events, complete = events[i+1:], false
			break
		}
	}
	return events, complete && (!after.Position.IsZero() || after.Epoch == m.epoch), err
}

// Mark is like [Redis.Mark].
func (m *Memory) Mark(g event.Group) (mark event.Mark, ok bool) {
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	if h := m.histories.of(g, time.Now()); h != nil {
		return event.Mark{Position: h.last}, true
	}
	return event.Mark{Epoch: m.epoch}, true
}

// Since is like [Histories.Since].
func (m *Memory) Since(_ context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error) {
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	h := m.histories.of(g, time.Now())
	if h == nil || limit <= 0 {
		return nil, after.IsZero() && limit > 0, nil
	}
	i, found := slices.BinarySearchFunc(h.events, after, func(e *event.Event, p event.Position) int { return e.Position().Compare(p) })
	if found {
		i++
	}
	events = h.events[i:]
	complete = len(events) <= limit && (found || after.IsZero() && !h.dropped)
	return slices.Clone(events[max(0, len(events)-limit):]), complete, nil
}
