package roster

import "orgcast/internal/event"

// An event may arrive twice, under two positions. A server that hung may run queued commands when
// it wakes up, after their sender has recorded the event at the replacement. Or a master publishes
// an event and dies before its replica has it, and the event is recorded again. The idempotency key
// shows that it is the same event.
const (
	// shownPerGroup is how many keyed events of a group are remembered.
	shownPerGroup = 1024
	// shownPerOrganization bounds the events of all groups of an organization: 1 MiB at shownCost
	// each.
	shownPerOrganization = 1 << 20 / shownCost
	// shownCost is an upper bound of the memory for one event, including its place in a map at the
	// lowest load.
	shownCost = 128
	// shownFor is how long a key counts, in milliseconds. A key that is used again later belongs to
	// another event.
	shownFor = uint64(event.DefaultHistoryAge / 1e6)
)

// shown remembers events that the groups of one organization delivered under idempotency keys. The
// zero shown is empty.
type shown struct {
	places map[shownKey]*shownEvent
	// The oldest and the newest event of all groups.
	oldest, newest *shownEvent
}

// shownKey is the hash of a key in its group.
type shownKey struct {
	in  *shownGroup
	key uint64
}

// shownGroup holds the events of one group.
type shownGroup struct {
	oldest, newest *shownEvent
	count          int
}

// shownEvent is one delivered event.
type shownEvent struct {
	shownKey

	position          event.Position
	joined            uint64      // the group's count of Subscribe calls at that time
	newer             *shownEvent // the next event of the group
	before, following *shownEvent // the neighbors in the organization, by age
}

// repeats returns the earlier event if this is the same event under another position, else nil.
func (w *shown) repeats(in *shownGroup, h event.Head) *shownEvent {
	if h.Key == 0 {
		return nil
	}
	e := w.places[shownKey{in, h.Key}]
	if e == nil || e.position == h.Position || !Repeats(e.position, h.Position) {
		return nil
	}
	return e
}

// has reports whether this event was delivered already, under the same key and position.
func (w *shown) has(in *shownGroup, h event.Head) bool {
	e := w.places[shownKey{in, h.Key}]
	return h.Key != 0 && e != nil && e.position == h.Position
}

// Repeats reports whether two events of a group with the same idempotency key are one event, judged
// by their positions. A key that is used again much later belongs to another event.
func Repeats(p, q event.Position) bool { return apart(p, q) < shownFor }

// apart returns the milliseconds between two positions.
func apart(p, q event.Position) uint64 {
	a, b := p.Milliseconds(), q.Milliseconds()
	return max(a, b) - min(a, b)
}

// add remembers an event that is delivered to a group, and forgets an older one if there is no
// room. joined is the group's count of Subscribe calls.
func (w *shown) add(in *shownGroup, h event.Head, joined uint64) {
	if h.Key == 0 {
		return
	}
	at := shownKey{in, h.Key}
	if e := w.places[at]; e != nil { // the same event, or another one much later
		e.position, e.joined = h.Position, joined
		return
	}
	var e *shownEvent
	switch {
	case in.count == shownPerGroup:
		e = w.drop(in)
	case len(w.places) == shownPerOrganization:
		e = w.drop(w.oldest.in) // that is also the oldest event of its group
	default:
		e = new(shownEvent)
	}
	if w.places == nil {
		w.places = make(map[shownKey]*shownEvent)
	}
	*e = shownEvent{shownKey: at, position: h.Position, joined: joined, before: w.newest}
	w.places[at] = e
	if w.newest == nil {
		w.oldest = e
	} else {
		w.newest.following = e
	}
	w.newest = e
	if in.newest == nil {
		in.oldest = e
	} else {
		in.newest.newer = e
	}
	in.newest = e
	in.count++
}

// drop forgets the oldest event of a group and returns its memory for reuse.
func (w *shown) drop(in *shownGroup) *shownEvent {
	e := in.oldest
	delete(w.places, e.shownKey)
	if in.oldest = e.newer; in.oldest == nil {
		in.newest = nil
	}
	in.count--
	if e.before == nil {
		w.oldest = e.following
	} else {
		e.before.following = e.following
	}
	if e.following == nil {
		w.newest = e.before
	} else {
		e.following.before = e.before
	}
	return e
}

// forget drops all events of a group.
func (w *shown) forget(in *shownGroup) {
	for in.count > 0 {
		w.drop(in)
	}
}
