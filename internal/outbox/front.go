package outbox

import "orgcast/internal/event"

// front is what dropOldest has passed: frames of the server's own, which stay, and one piece of
// news for each group that has lost something.
type front struct {
	items   []Item
	news    map[event.Group]int // where the news of a group stands
	lastOwn int                 // where the last frame of the server's own stands, -1 if there is none
	holes   int                 // empty items
}

// keep appends a frame of the server's own.
func (f *front) keep(it Item) {
	f.init()
	f.lastOwn = len(f.items)
	f.items = append(f.items, it)
}

// told reports whether the news of a group stands behind all frames of the server's own.
func (f *front) told(g event.Group) bool {
	at, ok := f.news[g]
	return ok && at > f.lastOwn
}

// withdraw removes the news of a group, if it has any, and returns its size.
func (f *front) withdraw(g event.Group) (size int) {
	at, ok := f.news[g]
	if !ok {
		return 0
	}
	size = f.items[at].bytes
	f.items[at] = Item{}
	f.holes++
	return size
}

// tell appends the news of a gap, and closes the holes when they have become many.
func (f *front) tell(it Item) {
	f.init()
	f.news[it.gap] = len(f.items)
	f.items = append(f.items, it)
	if f.holes <= pooledItems || f.holes <= len(f.items)/2 {
		return
	}
	all := f.items
	*f = front{}
	for i := range all {
		switch old := &all[i]; {
		case old.own():
			f.keep(*old)
		case !old.gap.IsZero():
			f.tell(*old)
		}
	}
}

func (f *front) init() {
	if f.news == nil {
		f.news, f.lastOwn = make(map[event.Group]int), -1
	}
}
