package gateway

import (
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/socket"
)

const (
	// joinLimit is how many bytes are joined into one write; more goes in several.
	joinLimit = 64 << 10
	// pooledItems and pooledBytes bound what is kept for reuse after a burst.
	pooledItems = 64
	pooledBytes = 16 << 10
)

// item is one thing to write: events, or a frame of the server's own. The zero item is nothing.
type item struct {
	burst *event.Burst
	frame []byte
	gap   event.Group // that frame tells of, if any
	last  bool        // frame is the close frame
	// left holds the events of burst of which some gave way, nil in the place of each; cut is their size.
	left []*event.Event
	cut  int
}

// size is what an item counts for: its bytes before compression.
func (it *item) size() int {
	if it.burst != nil {
		return len(it.burst.Frames()) - it.cut
	}
	return len(it.frame)
}

// own reports whether an item is a frame of the server's own that tells of no gap.
func (it *item) own() bool { return it.burst == nil && it.frame != nil && it.gap.IsZero() }

// batch is a queue of items. Idle connections hold none; they come from a pool.
type batch struct {
	// front holds what stays of that which stood before items, and is sent before them; see dropOldest.
	front   front
	items   []item
	bytes   int
	charged int // of bytes, what the organization's budget counts
	events  int
	last    bool // the close frame is the last item
	handed  bool // all bytes are with the transport, which may have to finish them
	// gaps holds the groups of which the last item tells of a gap, nil if there is none.
	gaps map[event.Group]struct{}
	// latest knows what has been superseded, nil where nobody asks.
	latest *latest
}

var batches = sync.Pool{New: func() any { return new(batch) }} //nolint:gochecknoglobals // a pool is shared by nature

// add appends an item.
func (b *batch) add(it item) {
	b.items = append(b.items, it)
	b.bytes += it.size()
	b.last = b.last || it.last
	if it.burst != nil {
		b.events += len(it.burst.Events())
		if len(b.gaps) > 0 {
			delete(b.gaps, it.burst.Group())
		}
	}
	if !it.gap.IsZero() {
		if b.gaps == nil {
			b.gaps = make(map[event.Group]struct{})
		}
		b.gaps[it.gap] = struct{}{}
	}
}

// takeFirst removes the first of items.
func (b *batch) takeFirst() item {
	it := b.items[0]
	b.items[0] = item{}
	b.items = b.items[1:]
	b.bytes -= it.size()
	if it.burst != nil {
		b.events -= len(it.burst.Events())
	}
	if l := b.latest; l != nil {
		l.first++
		if it.size() == 0 {
			l.holes--
		}
	}
	return it
}

// runs returns the items in order, as two lists.
func (b *batch) runs() [2][]item { return [2][]item{b.front.items, b.items} }

// oldest returns when the first event reached this node.
func (b *batch) oldest() time.Time {
	for i := range b.items { // front has none
		if burst := b.items[i].burst; burst != nil {
			return burst.Events()[0].Received()
		}
	}
	return time.Time{}
}

func (b *batch) release() {
	if cap(b.items) > pooledItems {
		return // shrink after a burst
	}
	clear(b.items)
	*b = batch{items: b.items[:0]}
	batches.Put(b)
}

// joined is a buffer in which frames of several items meet for one write.
type joined struct{ bytes []byte }

var joinBuffers = sync.Pool{New: func() any { return new(joined) }} //nolint:gochecknoglobals // a pool is shared by nature

func (j *joined) release() {
	if cap(j.bytes) > pooledBytes {
		return
	}
	j.bytes = j.bytes[:0]
	joinBuffers.Put(j)
}

// Offer queues events. It implements hub.Member.
func (c *conn) Offer(b *event.Burst) (flush bool) { return c.enqueue(item{burst: c.shape(b)}) }

// shape returns the burst as this client gets it: with positions if it knows them.
func (c *conn) shape(b *event.Burst) *event.Burst {
	if c.protocol == consumer.ProtocolV1 {
		return b.Positioned()
	}
	return b
}

// OfferGap implements hub.Member.
func (c *conn) OfferGap(g event.Group) {
	if it, ok := c.gap(g); ok && c.enqueue(it) {
		c.Flush()
	}
}

// gap makes the frame that tells of a gap, for clients that know it.
func (c *conn) gap(g event.Group) (it item, ok bool) {
	if c.protocol != consumer.ProtocolV1 {
		return item{}, false
	}
	frame, err := event.Encode(gapFrame{Type: "gap", Group: g.Name()})
	return item{frame: frame, gap: g}, err == nil
}

// gapFrame says that events of a group may have been lost.
type gapFrame struct {
	Type  string `json:"type"` // "gap"
	Group string `json:"group"`
	// After and Before are the positions between which they are, as far as they are known.
	After  string `json:"after,omitempty"`
	Before string `json:"before,omitempty"`
}

// enqueue puts an item last in the queue and reports whether it waits for a flush. Where there is
// no room, the route says what gives way; if nothing can, the connection ends: its browser reads
// too slowly, and may come back.
func (c *conn) enqueue(it item) (flush bool) {
	c.mu.Lock()
	if c.ended || c.sealed || !it.gap.IsZero() && c.told(it.gap) {
		c.mu.Unlock()
		return false
	}
	ok := true
	if len(c.starts) > 0 {
		it, ok = c.begin(it)
	}
	if ok && it.size() > 0 {
		ok = c.add(it)
	}
	flush = ok && c.queue != nil && !c.writing
	c.mu.Unlock()
	if !ok {
		c.tooSlow()
	}
	return flush
}

// add puts an item last in the queue, and returns false if there is no room and can be none. What
// would stand behind the close frame it drops. Its caller holds mu.
func (c *conn) add(it item) bool {
	if c.sealed {
		return true
	}
	if c.full(it.size()) && !c.makeRoom(&it) {
		return false
	}
	if it.burst != nil || it.frame != nil { // else it gave way itself
		c.push(it)
	}
	return true
}

// tooSlow ends a connection that has no room for what is due.
func (c *conn) tooSlow() {
	c.dropped(dropTooSlow, 1)
	c.writeFailed(ErrTooSlow)
}

// push appends to the queue. Its caller holds mu.
func (c *conn) push(it item) {
	if c.queue == nil {
		c.queue, _ = batches.Get().(*batch)
	}
	before := c.queue.bytes
	c.append(c.queue, it)
	c.recount(before)
}

// append adds an item to a batch that waits. Where only the newest events are to stay it takes note of
// which that are, before there is so much that looking takes time. Its caller holds mu.
func (c *conn) append(b *batch, it item) {
	b.add(it)
	switch {
	case c.route.WhenFull != consumer.Latest:
	case b.latest != nil:
		b.note(len(b.items) - 1)
	case len(b.items) > indexedFrom:
		b.index()
	}
}

// recount brings the books up to date after the queue, which had so many bytes before, has changed. Its
// caller holds mu.
func (c *conn) recount(before int) {
	c.queued += c.queue.bytes - before
	if c.writing || c.queue.charged > 0 { // the socket is behind, so this will wait
		c.charge(c.queue)
	}
}

// charge counts a batch that waits in the budget of the organization. Its caller holds mu.
func (c *conn) charge(b *batch) {
	c.budget.used.Add(int64(b.bytes - b.charged))
	b.charged = b.bytes
}

// settle takes a batch off the books and back into the pool. Its caller holds mu.
func (c *conn) settle(b *batch) {
	c.queued -= b.bytes
	c.budget.used.Add(-int64(b.charged))
	b.release()
}

// claim takes the queue to write it, if there is one and nobody is writing. Its caller holds mu
// and, if it gets a batch, is the writer until it has called endWriting.
func (c *conn) claim() *batch {
	if c.writing || c.queue == nil || c.transport == nil || c.gone {
		return nil
	}
	b := c.queue
	c.queue = nil
	c.writing = true
	c.tree.Add(1) // until endWriting: teardown waits for whoever writes
	return b
}

// endWriting takes back what claim gave and reports whether more waits.
func (c *conn) endWriting(b *batch) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(b)
	c.writing = false
	c.tree.Done()
	c.tellHandled()
	return c.queue != nil
}

// Flush sends what is queued as far as the socket takes it at once, and leaves the rest to a
// goroutine. It never blocks, so fan-out calls it for one connection after the other. It
// implements hub.Member.
func (c *conn) Flush() {
	c.mu.Lock()
	b := c.claim()
	c.mu.Unlock()
	if b == nil {
		return
	}
	if c.handler != nil || b.bytes > joinLimit || !c.transport.Direct() {
		c.startWriter(b)
		return
	}
	frames, buffer, err := c.assemble(b)
	sent := socket.SentNone
	if err == nil && len(frames) > 0 {
		var how socket.How
		if buffer != nil {
			how |= socket.Reused
		}
		if b.last {
			how |= socket.Last
		}
		sent, err = c.transport.TryWrite(frames, how)
	}
	if buffer != nil {
		buffer.release()
	}
	switch {
	case err != nil:
		c.endWriting(b)
		c.writeFailed(err)
	case len(frames) == 0: // everything gave way
		if c.endWriting(b) {
			c.Flush()
		}
	case sent != socket.SentAll:
		b.handed = sent == socket.SentPart
		c.startWriter(b)
	default:
		c.server.metrics.wrote(b.events, b.oldest())
		if c.endWriting(b) {
			c.Flush() // something came meanwhile
		}
	}
}

// startWriter lets a goroutine write a claimed batch, and what comes after it.
func (c *conn) startWriter(b *batch) {
	c.mu.Lock()
	c.charge(b)
	c.mu.Unlock()
	go c.writeLoop(b)
}

// bytes returns what is sent for an item.
func (c *conn) bytes(it *item) []byte {
	switch {
	case it.burst == nil:
		return it.frame
	case c.transport.Compressed():
		return it.burst.Deflated(c.server.options.CompressThreshold)
	default:
		return it.burst.Frames()
	}
}

// assemble makes one run of bytes of a batch, without copying if it holds one item only; else the
// bytes stand in a buffer.
func (c *conn) assemble(b *batch) (frames []byte, buffer *joined, err error) {
	single := len(b.front.items)+len(b.items) == 1
	for _, run := range b.runs() {
		for i := range run {
			it := &run[i]
			if it.size() == 0 {
				continue
			}
			c.whole(it)
			if it.burst != nil {
				if err := c.admit(it.burst); err != nil {
					return nil, buffer, err
				}
			}
			if single {
				return c.bytes(it), nil, nil
			}
			if buffer == nil {
				buffer, _ = joinBuffers.Get().(*joined)
			}
			buffer.bytes = append(buffer.bytes, c.bytes(it)...)
		}
	}
	if buffer == nil { // everything gave way
		return nil, nil, nil
	}
	return buffer.bytes, buffer, nil
}

// admit is the last look at events before their bytes leave: does the organization that they name
// own this connection? Everything before has made sure that it does; should that ever fail, they
// are dropped, the connection ends and the counter that stays 0 does not.
func (c *conn) admit(b *event.Burst) error {
	if b.Organization() == c.identity.Organization && !c.identity.Organization.IsZero() {
		return nil
	}
	c.server.log.Error("isolation violation prevented",
		zap.String("connection", c.id), zap.Stringer("organization", c.identity.Organization),
		zap.Stringer("event_organization", b.Organization()), zap.Stringer("group", b.Group()))
	c.server.violated()
	return ErrIsolation
}

// writeLoop writes batches until nothing is left, and may wait for the browser at each. It runs at
// most once at a time for a connection; claim has entered it into the tree.
func (c *conn) writeLoop(b *batch) {
	for b != nil {
		err := c.server.guard(c, "write", func() error { return c.writeBatch(b) })
		c.endWriting(b)
		if err != nil {
			c.writeFailed(err)
		}
		c.mu.Lock()
		b = c.claim()
		c.mu.Unlock()
	}
}

// writeBatch writes the items in order.
func (c *conn) writeBatch(b *batch) error {
	if b.handed {
		switch err := c.transport.Finish(); {
		case errors.Is(err, socket.ErrMuted):
			return nil
		case err != nil:
			return err
		}
		c.server.metrics.wrote(b.events, b.oldest())
		return nil
	}
	for _, run := range b.runs() {
		for i := range run {
			if err := c.writeItem(&run[i]); err != nil && !errors.Is(err, socket.ErrMuted) { // else the close frame may still be due
				return err
			}
		}
	}
	return nil
}

// writeItem writes one item.
func (c *conn) writeItem(it *item) error {
	switch {
	case it.last:
		return c.transport.WriteClose(it.frame)
	case it.size() == 0: // it gave way
		return nil
	case it.burst != nil:
		c.whole(it)
		return c.writeBurst(it)
	default:
		return c.transport.Write(it.frame)
	}
}

// whole makes a burst of what is left of an item's events.
func (c *conn) whole(it *item) {
	if it.left == nil {
		return
	}
	rest := slices.DeleteFunc(it.left, func(e *event.Event) bool { return e == nil })
	b, _ := event.NewBurst(rest, len(it.burst.Frames())) // all of them: together they are smaller
	*it = item{burst: c.shape(b)}
}

// writeBurst writes events, after the consumer has had its look at each if it wants one.
func (c *conn) writeBurst(it *item) error {
	if err := c.admit(it.burst); err != nil {
		return err
	}
	events := it.burst.Events()
	if c.handler == nil {
		if err := c.transport.Write(c.bytes(it)); err != nil {
			return err
		}
		c.server.metrics.wrote(len(events), events[0].Received())
		return nil
	}
	for _, e := range events {
		if c.transport.Muted() {
			return socket.ErrMuted
		}
		c.handling.Store(true)
		wanted := c.handler.HandleEvent(c.ctx, c, e)
		c.handling.Store(false)
		if !wanted {
			continue
		}
		if err := c.transport.Write(c.bytes(&item{burst: c.shape(e.Alone())})); err != nil {
			return err
		}
		c.server.metrics.wrote(1, e.Received())
	}
	return nil
}
