package gateway

import (
	"slices"
	"sync/atomic"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
)

// budget bounds what one organization has of the node: what waits for all its slow browsers, what is
// held of all that its browsers sent, and how many of its connections stand in line for histories.
type budget struct {
	used atomic.Int64 // bytes that wait for browsers
	// received is the bytes held of what browsers sent: messages on their way in, and those that
	// consumers have not handled yet.
	received atomic.Int64
	// line holds the one connection that waits for a turn at a history or has it; the others of the
	// organization stand behind it.
	line chan struct{}
	// drops counts what its connections have lost, by reason.
	drops [dropReasons]drops
	// overdue counts messages that no consumer handled in time after their browser had left.
	overdue drops
	// members counts the connections that share it; the owner of the map of budgets guards it.
	members int
}

func newBudget() *budget { return &budget{line: make(chan struct{}, turnsAtOnce())} }

// full reports whether size more bytes have no room. Its caller holds mu.
func (c *conn) full(size int) bool {
	limit := c.server.options.QueueBytes
	if c.writing && c.budget.used.Load()+int64(size) > int64(c.server.options.QueueBytesPerOrganization) {
		return true
	}
	if c.route.WhenFull == consumer.Disconnect {
		return c.queued+size > limit
	}
	// What is being written cannot give way, and so does not count.
	return c.queue != nil && c.queue.bytes+size > limit
}

// makeRoom lets go of events as the route's policy says, so that the item finds room; it may be the
// one to go. It returns false if the connection has to end instead. Its caller holds mu.
func (c *conn) makeRoom(it *item) bool {
	switch c.route.WhenFull {
	case consumer.DropOldest:
		return c.dropOldest(it)
	case consumer.Latest:
		return c.keepLatest(it)
	default:
		return false
	}
}

// room is how many bytes may wait in the queue: what one connection may have and, if it is behind,
// what the others have left of the organization's budget. They change that meanwhile, so it is looked
// at once for each decision. Its caller holds mu.
func (c *conn) room() int {
	o := &c.server.options
	if !c.writing {
		return o.QueueBytes
	}
	others := int(c.budget.used.Load())
	if c.queue != nil {
		others -= c.queue.charged
	}
	return min(o.QueueBytes, o.QueueBytesPerOrganization-others)
}

// dropOldest takes events from the front of the queue until the item has room, and puts the news of
// the gap in the place of the last: a state that was sent before that stays before the news. If
// nothing is left to take, the item itself goes, unless it is a frame of the server's own: then,
// with a queue full of such frames, dropOldest returns false.
//
// What it passes it moves to the front of the batch, so that it looks at everything once.
func (c *conn) dropOldest(it *item) bool {
	room := c.room()
	if c.queue == nil {
		c.queue, _ = batches.Get().(*batch)
	}
	b := c.queue
	before, dropped := b.bytes, 0
	for len(b.items) > 0 && b.bytes+it.size() > room {
		switch old := b.takeFirst(); {
		case old.own():
			b.front.pass(old)
			b.bytes += old.size()
		case old.burst != nil:
			dropped += len(old.burst.Events())
			c.tell(b, old.burst.Group())
		default: // older news of a gap merges with ours
			c.tell(b, old.gap)
		}
	}
	ok := true
	switch {
	case b.bytes+it.size() > room && it.burst != nil: // only frames of our own are left before it
		dropped += len(it.burst.Events())
		c.tell(b, it.burst.Group())
		*it = item{}
	case b.bytes+it.size() > c.server.options.QueueBytes:
		ok = false
	}
	c.recount(before)
	if b.bytes == 0 {
		c.dropQueueLocked()
	}
	c.dropped(dropOldest, dropped)
	return ok
}

// tell puts the news of a gap at the end of what is passed, unless it stands behind everything there
// already. Its caller holds mu.
func (c *conn) tell(b *batch, g event.Group) {
	f := &b.front
	place, told := f.news[g]
	if told && place > f.lastOwn {
		return
	}
	news, ok := c.gap(g)
	if !ok {
		return
	}
	if told {
		b.bytes -= f.items[place].size()
		f.items[place] = item{}
		f.holes++
	}
	b.bytes += news.size()
	f.addNews(news)
}

// front is what dropOldest has passed: frames of the server's own, which stay, and one piece of news for
// each group that has lost something.
type front struct {
	items   []item
	news    map[event.Group]int // where the news of a group stands
	lastOwn int                 // where the last frame of our own stands, -1 if there is none
	holes   int                 // zero items
}

// pass appends a frame of the server's own.
func (f *front) pass(it item) {
	f.begin()
	f.lastOwn = len(f.items)
	f.items = append(f.items, it)
}

// addNews appends the news of a gap, and closes the holes when they have become many.
func (f *front) addNews(it item) {
	f.begin()
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
			f.pass(*old)
		case !old.gap.IsZero():
			f.addNews(*old)
		}
	}
}

func (f *front) begin() {
	if f.news == nil {
		f.news, f.lastOwn = make(map[event.Group]int), -1
	}
}

// told reports whether the last thing that waits for a group is the news of a gap. Its caller holds mu.
func (c *conn) told(g event.Group) bool {
	if c.queue == nil {
		return false
	}
	_, ok := c.queue.gaps[g]
	return ok
}

// keepLatest puts an item last in a queue that is full, and takes from it events that newer ones of the
// same group and type have superseded, until there is room. It returns false if there is none, then.
func (c *conn) keepLatest(it *item) bool {
	room := c.room()
	if c.queue == nil {
		c.queue, _ = batches.Get().(*batch)
	}
	b := c.queue
	before := b.bytes
	c.append(b, *it)
	*it = item{}
	c.dropStale(b, b.bytes-room)
	c.recount(before)
	return b.bytes <= room
}

// dropStale lets go of superseded events of a batch, until as many bytes are free or none is left.
func (c *conn) dropStale(b *batch, need int) {
	if need <= 0 {
		return
	}
	if b.latest == nil {
		b.index()
	}
	l := b.latest
	freed, dropped := 0, 0
	for freed < need && len(l.stale) > 0 {
		p := l.stale[0]
		l.stale = l.stale[1:]
		if p.item >= l.first { // else it has left
			freed += c.drop(b, p)
			dropped++
		}
	}
	b.bytes -= freed
	b.events -= dropped
	b.close()
	c.dropped(dropLatest, dropped)
}

// drop takes one event out of a batch and returns its size.
func (c *conn) drop(b *batch, p place) (size int) {
	it := &b.items[p.item-b.latest.first]
	if it.left == nil {
		it.left = slices.Clone(it.burst.Events())
	}
	size = c.sizeOf(it.left[p.event])
	it.left[p.event] = nil
	if it.cut += size; it.size() == 0 {
		*it = item{}
		b.latest.holes++
	}
	return size
}

// indexedFrom is from how many items on a queue knows which of its events are superseded.
const indexedFrom = 64

// latest is what a batch knows of its events. Items are counted from the batch's first one on, so that
// they keep their numbers when those before them go.
type latest struct {
	first  int // number of the first of the batch's items
	newest map[latestKey]place
	stale  []place // superseded events that are still there, in the order in which they became so
	holes  int     // zero items
}

type latestKey struct {
	group event.Group
	typ   string
}

// place is where an event stands: the number of its item and which of that one's events it is.
type place struct{ item, event int }

// index makes the batch know what is superseded.
func (b *batch) index() {
	b.latest = &latest{newest: make(map[latestKey]place)}
	for i := range b.items {
		b.note(i)
	}
}

// note takes note of the events of an item that was added.
func (b *batch) note(i int) {
	if b.items[i].burst == nil {
		return
	}
	l := b.latest
	for k, e := range b.items[i].burst.Events() {
		key := latestKey{e.Group(), e.Type()}
		if before, ok := l.newest[key]; ok && before.item >= l.first {
			l.stale = append(l.stale, before)
		}
		l.newest[key] = place{l.first + i, k}
	}
}

// close lets go of the zero items at the beginning, and of those in between when they are half of all.
func (b *batch) close() {
	l := b.latest
	for l.holes > 0 && b.items[0].size() == 0 {
		b.items = b.items[1:]
		l.first++
		l.holes--
	}
	if l.holes <= indexedFrom || l.holes <= len(b.items)/2 {
		return
	}
	moved := make([]int, len(b.items)) // the new number of each
	kept := make([]item, 0, len(b.items)-l.holes)
	for i := range b.items {
		moved[i] = len(kept)
		if b.items[i].size() > 0 {
			kept = append(kept, b.items[i])
		}
	}
	for key, p := range l.newest {
		if p.item < l.first {
			delete(l.newest, key)
		} else {
			l.newest[key] = place{moved[p.item-l.first], p.event}
		}
	}
	stale := l.stale[:0]
	for _, p := range l.stale {
		if p.item >= l.first {
			stale = append(stale, place{moved[p.item-l.first], p.event})
		}
	}
	l.stale = stale
	b.items, l.first, l.holes = kept, 0, 0
}
