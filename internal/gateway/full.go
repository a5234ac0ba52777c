package gateway

import (
	"slices"
	"sync/atomic"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
)

// budget bounds what waits for all the slow browsers of one organisation together.
type budget struct {
	used atomic.Int64 // bytes
	// members counts the connections that share it; the owner of the map of budgets guards it.
	members int
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
		c.dropOldest(it)
		return true
	case consumer.Latest:
		return c.keepLatest(it)
	default:
		return false
	}
}

// dropOldest takes events from the front of the queue until the item has room, and puts the news of
// the gap in their place. If there is nothing to take, the item itself goes.
func (c *conn) dropOldest(it *item) {
	var lost []event.Group
	dropped := 0
	lose := func(b *event.Burst) {
		dropped += len(b.Events())
		if !slices.Contains(lost, b.Group()) {
			lost = append(lost, b.Group())
		}
	}
	var kept []item
	if c.queue != nil {
		kept = slices.Clone(c.queue.items)
		c.dropQueueLocked()
	}
	waiting := 0
	for i := range kept {
		waiting += kept[i].size()
	}
	fits := func() bool { return waiting+it.size() <= c.server.options.QueueBytes }
	kept = slices.DeleteFunc(kept, func(old item) bool {
		if fits() || old.burst == nil {
			return false
		}
		waiting -= old.size()
		lose(old.burst)
		return true
	})
	if it.burst != nil && (!fits() || c.overBudget(waiting+it.size())) {
		lose(it.burst)
		*it = item{}
	}
	for _, g := range lost {
		next := slices.IndexFunc(kept, func(old item) bool { return old.gap == g || old.burst != nil && old.burst.Group() == g })
		if next >= 0 && kept[next].gap == g {
			continue // it has been told already
		}
		if news, ok := c.gap(g); ok {
			c.push(news)
		}
	}
	for _, old := range kept {
		c.push(old)
	}
	c.server.metrics.droppedOldest.Add(uint64(dropped)) //nolint:gosec // not negative
}

// overBudget reports whether the organisation has no room for that much.
func (c *conn) overBudget(size int) bool {
	return c.budget.used.Load()+int64(size) > int64(c.server.options.QueueBytesPerOrganization)
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
			kept = append(kept, item{burst: e.Alone()})
		}
	}
	size := 0
	for i := range kept {
		size += kept[i].size()
	}
	if size > c.server.options.QueueBytes || c.overBudget(size) {
		return false
	}
	for _, old := range slices.Backward(kept) {
		c.push(old)
	}
	*it = item{}
	c.server.metrics.superseded.Add(uint64(dropped)) //nolint:gosec // not negative
	return true
}
