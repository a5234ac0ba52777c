package gateway

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
)

// budget bounds what waits for all the slow browsers of one organisation together, and how many of
// its connections make something of a history at the same time.
type budget struct {
	used atomic.Int64 // bytes that wait for browsers
	// received is the bytes held of what browsers sent: messages on their way in, and those that
	// consumers have not handled yet.
	received atomic.Int64
	// turns holds one for each connection that does: as many as half of the cores.
	turns chan struct{}
	// members counts the connections that share it; the owner of the map of budgets guards it.
	members int
}

func newBudget() *budget {
	return &budget{turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// inTurn calls begin, which reads a history and sends what it makes of it, when it is the connection's
// turn. A page may ask for that in a message of 20 bytes, and of a long history it takes tens of
// milliseconds: a few pages that ask as fast as they may would else keep all cores from everybody.
func (b *budget) inTurn(ctx context.Context, begin func() (event.Position, error)) (event.Position, error) {
	select {
	case b.turns <- struct{}{}:
	case <-ctx.Done():
		return event.Position{}, context.Cause(ctx)
	}
	defer func() { <-b.turns }()
	return begin()
}

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
// what the others have left of the organisation's budget. They change that meanwhile, so it is looked
// at once for each decision. Its caller holds mu and has taken the queue off the books.
func (c *conn) room() int {
	o := &c.server.options
	if !c.writing {
		return o.QueueBytes
	}
	return min(o.QueueBytes, o.QueueBytesPerOrganization-int(c.budget.used.Load()))
}

// dropOldest takes events from the front of the queue until the item has room, and puts the news of
// the gap in the place of the last: a state that was sent before that stays before the news. If
// nothing is left to take, the item itself goes, unless it is a frame of the server's own: then,
// with a queue full of such frames, dropOldest returns false.
func (c *conn) dropOldest(it *item) bool {
	type newsItem struct {
		item

		place int // in kept
	}
	var kept []item
	var news []newsItem // in order
	if c.queue != nil {
		kept = slices.Clone(c.queue.items)
		c.dropQueueLocked()
	}
	room := c.room()
	waiting := it.size()
	for i := range kept {
		waiting += kept[i].size()
	}
	dropped, passed := 0, 0
	lose := func(old item) {
		waiting -= old.size()
		g := old.gap // older news of a gap merges with ours
		if old.burst != nil {
			g = old.burst.Group()
			dropped += len(old.burst.Events())
		}
		if i := slices.IndexFunc(news, func(n newsItem) bool { return n.gap == g }); i >= 0 {
			again := news[i].item
			news = append(slices.Delete(news, i, i+1), newsItem{again, passed})
			return
		}
		if tells, ok := c.gap(g); ok {
			waiting += tells.size()
			news = append(news, newsItem{tells, passed})
		}
	}
	kept = slices.DeleteFunc(kept, func(old item) bool {
		if waiting <= room || old.burst == nil && old.gap.IsZero() {
			passed++
			return false
		}
		lose(old)
		return true
	})
	switch {
	case waiting > room && it.burst != nil: // only frames of our own are left before it
		lose(*it)
		*it = item{}
	case waiting > c.server.options.QueueBytes:
		return false
	}
	for i := range len(kept) + 1 {
		for ; len(news) > 0 && news[0].place == i; news = news[1:] {
			tells := news[0].item
			next := slices.IndexFunc(kept[i:], func(old item) bool {
				return old.gap == tells.gap || old.burst != nil && old.burst.Group() == tells.gap
			})
			if next < 0 || kept[i+next].gap != tells.gap { // else it has been told already
				c.push(tells)
			}
		}
		if i < len(kept) {
			c.push(kept[i])
		}
	}
	c.server.metrics.droppedOldest.Add(uint64(dropped))
	return true
}

// told reports whether the last thing that waits for a group is the news of a gap. Its caller holds mu.
func (c *conn) told(g event.Group) bool {
	if c.queue == nil {
		return false
	}
	for _, it := range slices.Backward(c.queue.items) {
		if it.gap == g || it.burst != nil && it.burst.Group() == g {
			return it.gap == g
		}
	}
	return false
}

// keepLatest leaves, of the events of one group and type, only the newest in the queue. It returns
// false if that makes no room.
func (c *conn) keepLatest(it *item) bool {
	type key struct {
		group event.Group
		typ   string
	}
	var all []item
	if c.queue != nil {
		all = slices.Clone(c.queue.items)
		c.dropQueueLocked()
	}
	all = append(all, *it)
	seen := make(map[key]bool)
	dropped := 0
	var kept []item // newest first
	for _, old := range slices.Backward(all) {
		if old.burst == nil {
			kept = append(kept, old)
			continue
		}
		for _, e := range slices.Backward(old.burst.Events()) {
			k := key{e.Group(), e.Type()}
			if seen[k] {
				dropped++
				continue
			}
			seen[k] = true
			kept = append(kept, item{burst: c.shape(e.Alone())})
		}
	}
	size := 0
	for i := range kept {
		size += kept[i].size()
	}
	if size > c.room() {
		return false
	}
	for _, old := range slices.Backward(kept) {
		c.push(old)
	}
	*it = item{}
	c.server.metrics.superseded.Add(uint64(dropped))
	return true
}
