package gateway

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
)

const (
	// joinLimit is how many bytes are joined into one write; more goes in several.
	joinLimit = 64 << 10
	// pooledItems and pooledBytes bound what is kept for reuse after a burst.
	pooledItems = 64
	pooledBytes = 16 << 10
)

// item is one thing to write: events, or a frame of the server's own, or the close frame.
type item struct {
	burst *event.Burst
	frame []byte
	close *ending
}

func (it *item) bytes() []byte {
	if it.burst != nil {
		return it.burst.Frames()
	}
	return it.frame
}

// batch is a queue of items. Idle connections hold none; they come from a pool.
type batch struct {
	items  []item
	bytes  int
	events int
	oldest time.Time // when the first event reached this node
	last   bool      // the close frame is the last item
	handed bool      // all bytes are with the wire, which may have to finish them
}

var batches = sync.Pool{New: func() any { return new(batch) }} //nolint:gochecknoglobals // a pool is shared by nature

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
func (c *conn) Offer(b *event.Burst) (flush bool) { return c.enqueue(item{burst: b}) }

// OfferGap implements hub.Member.
func (c *conn) OfferGap(g event.Group) {
	if c.protocol == consumer.ProtocolV1 {
		_ = c.Send(gapFrame{Type: "gap", Group: g.Name()}) // this frame always encodes
	}
}

// enqueue puts an item last in the queue and reports whether it waits for a flush. A queue without
// room ends the connection: its browser reads too slowly, and may come back.
func (c *conn) enqueue(it item) (flush bool) {
	size := len(it.bytes())
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return false
	}
	if c.queued+size > c.server.options.QueueBytes {
		c.mu.Unlock()
		c.server.metrics.tooSlow.Add(1)
		c.End(ErrTooSlow)
		return false
	}
	c.push(it, size)
	flush = !c.writing
	c.mu.Unlock()
	return flush
}

// push appends to the queue. Its caller holds mu.
func (c *conn) push(it item, size int) {
	if c.queue == nil {
		c.queue, _ = batches.Get().(*batch)
	}
	b := c.queue
	b.items = append(b.items, it)
	b.bytes += size
	b.last = b.last || it.close != nil
	if it.burst != nil {
		if b.events == 0 {
			b.oldest = it.burst.Events()[0].Received()
		}
		b.events += len(it.burst.Events())
	}
	c.queued += size
}

// claim takes the queue to write it, if there is one and nobody is writing. Its caller holds mu
// and, if it gets a batch, is the writer until it has set writing to false.
func (c *conn) claim() *batch {
	if c.writing || c.queue == nil || c.wire == nil || c.gone {
		return nil
	}
	b := c.queue
	c.queue = nil
	c.writing = true
	c.tree.Add(1) // until endWriting: teardown waits for whoever writes
	return b
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
	if c.handler != nil || b.last || b.bytes > joinLimit || !c.wire.direct() {
		go c.writeLoop(b)
		return
	}
	frames, buffer, err := c.assemble(b)
	sent := sentNone
	if err == nil {
		sent, err = c.wire.tryWrite(frames, buffer != nil)
	}
	if buffer != nil {
		buffer.release()
	}
	switch {
	case err != nil:
		c.endWriting(b)
		c.End(causeOfWrite(err))
	case sent != sentAll:
		b.handed = sent == sentPart
		go c.writeLoop(b)
	default:
		c.server.metrics.wrote(b.events, b.oldest)
		if c.endWriting(b) {
			c.Flush() // something came meanwhile
		}
	}
}

// endWriting takes back what claim gave and reports whether more waits.
func (c *conn) endWriting(b *batch) (more bool) {
	c.mu.Lock()
	c.queued -= b.bytes
	c.writing = false
	more = c.queue != nil
	c.tree.Done()
	c.mu.Unlock()
	b.release()
	return more
}

// assemble makes one run of bytes of a batch, without copying if it holds one item only; else the
// bytes stand in a buffer.
func (c *conn) assemble(b *batch) (frames []byte, buffer *joined, err error) {
	for i := range b.items {
		it := &b.items[i]
		if it.burst != nil {
			if err := c.admit(it.burst); err != nil {
				return nil, buffer, err
			}
		}
		if len(b.items) == 1 {
			return it.bytes(), nil, nil
		}
		if buffer == nil {
			buffer, _ = joinBuffers.Get().(*joined)
		}
		buffer.bytes = append(buffer.bytes, it.bytes()...)
	}
	return buffer.bytes, buffer, nil
}

// admit is the last look at events before their bytes leave: does the organisation that they name
// own this connection? Everything before has made sure that it does; should that ever fail, they
// are dropped, the connection ends and the counter that stays 0 does not.
func (c *conn) admit(b *event.Burst) error {
	if b.Organization() == c.identity.Organization && !c.identity.Organization.IsZero() {
		return nil
	}
	c.server.metrics.violations.Add(1)
	c.server.log.Error("isolation violation prevented",
		zap.String("connection", c.id), zap.Stringer("organization", c.identity.Organization),
		zap.Stringer("event_organization", b.Organization()), zap.Stringer("group", b.Group()))
	return ErrIsolation
}

// writeLoop writes batches until nothing is left, and may wait for the browser at each. It runs at
// most once at a time for a connection; claim has entered it into the tree.
func (c *conn) writeLoop(b *batch) {
	for b != nil {
		err := c.server.guard(c, "write", func() error { return c.writeBatch(b) })
		c.endWriting(b)
		if err != nil {
			c.End(causeOfWrite(err))
		}
		c.mu.Lock()
		b = c.claim()
		c.mu.Unlock()
	}
}

// writeBatch writes the items in order.
func (c *conn) writeBatch(b *batch) error {
	if b.handed {
		if err := c.wire.finish(); err != nil {
			return err
		}
		c.server.metrics.wrote(b.events, b.oldest)
		return nil
	}
	for i := range b.items {
		it := &b.items[i]
		var err error
		switch {
		case it.close != nil:
			err = c.wire.writeClose(it.close.code, it.close.reason)
		case it.burst != nil:
			err = c.writeBurst(it.burst)
		default:
			err = c.wire.writeFrames(it.frame)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeBurst writes events, after the consumer has had its look at each if it wants one.
func (c *conn) writeBurst(b *event.Burst) error {
	if err := c.admit(b); err != nil {
		return err
	}
	events := b.Events()
	if c.handler == nil {
		if err := c.wire.writeFrames(b.Frames()); err != nil {
			return err
		}
		c.server.metrics.wrote(len(events), events[0].Received())
		return nil
	}
	for _, e := range events {
		if !c.handler.HandleEvent(c.ctx, c, e) {
			continue
		}
		if err := c.wire.writeFrames(e.Frame()); err != nil {
			return err
		}
		c.server.metrics.wrote(1, e.Received())
	}
	return nil
}
