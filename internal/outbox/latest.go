package outbox

import (
	"slices"

	"orgcast/internal/event"
)

// indexedFrom is from how many items on a batch knows which of its events are superseded.
const indexedFrom = 64

// latest is what a batch knows of its events. Items are counted from the batch's first one on, so
// that they keep their numbers when those before them go.
type latest struct {
	first  int // number of the first of the batch's items
	newest map[latestKey]cursor
	stale  []cursor // superseded events that are still there, in the order in which they became so
	holes  int      // empty items
}

type latestKey struct {
	group event.Group
	typ   string
}

// cursor is where an event stands: the number of its item and which of that one's events it is.
type cursor struct{ item, event int }

// dropStale lets go of superseded events, until so many bytes are free or none is left.
func (o *Outbox) dropStale(b *Batch, need int) (freed, dropped int) {
	if need <= 0 {
		return 0, 0
	}
	if b.latest == nil {
		b.index()
	}
	l := b.latest
	for freed < need && len(l.stale) > 0 {
		at := l.stale[0]
		l.stale = l.stale[1:]
		if at.item >= l.first { // else it has left
			size, e := b.drop(at)
			o.loseEvents(e.Alone().Events(), LostLatest)
			freed += size
			dropped++
		}
	}
	b.bytes -= freed
	b.shared -= freed
	b.events -= dropped
	b.closeHoles()
	return freed, dropped
}

// drop removes one event and returns its size.
func (b *Batch) drop(at cursor) (size int, e *event.Event) {
	it := &b.items[at.item-b.latest.first]
	if it.left == nil {
		it.left = slices.Clone(it.Burst.Events())
	}
	e = it.left[at.event]
	size = b.options.sizeOf(e)
	it.left[at.event] = nil
	if it.bytes -= size; it.bytes == 0 {
		b.release(it)
		*it = Item{}
		b.latest.holes++
	}
	return size, e
}

// index makes the batch know what is superseded.
func (b *Batch) index() {
	b.latest = &latest{newest: make(map[latestKey]cursor)}
	for i := range b.items {
		b.note(i)
	}
}

// note notes the events of an item that was added.
func (b *Batch) note(i int) {
	if b.items[i].Burst == nil {
		return
	}
	l := b.latest
	for k, e := range b.items[i].Burst.Events() {
		key := latestKey{e.Group(), e.Type()}
		if before, ok := l.newest[key]; ok && before.item >= l.first {
			l.stale = append(l.stale, before)
		}
		l.newest[key] = cursor{l.first + i, k}
	}
}

// closeHoles removes the empty items at the beginning, and those in between when they are half of
// all.
func (b *Batch) closeHoles() {
	l := b.latest
	for l.holes > 0 && b.items[0].bytes == 0 {
		b.items = b.items[1:]
		l.first++
		l.holes--
	}
	if l.holes <= indexedFrom || l.holes <= len(b.items)/2 {
		return
	}
	moved := make([]int, len(b.items)) // the new number of each
	kept := make([]Item, 0, len(b.items)-l.holes)
	for i := range b.items {
		moved[i] = len(kept)
		if b.items[i].bytes > 0 {
			kept = append(kept, b.items[i])
		}
	}
	for key, at := range l.newest {
		if at.item < l.first {
			delete(l.newest, key)
		} else {
			l.newest[key] = cursor{moved[at.item-l.first], at.event}
		}
	}
	stale := l.stale[:0]
	for _, at := range l.stale {
		if at.item >= l.first {
			stale = append(stale, cursor{moved[at.item-l.first], at.event})
		}
	}
	l.stale = stale
	b.items, l.first, l.holes = kept, 0, 0
}
