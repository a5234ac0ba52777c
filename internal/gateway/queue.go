package gateway

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
)

const (
	// joinLimit is how many bytes of small frames are joined into one write; it fits the send
	// buffer that Linux gives a new socket.
	joinLimit = 16 << 10
	// pooledItems is the longest queue that is kept for reuse after a burst.
	pooledItems = 256
)

// item is one thing to write: an event, or a frame of the server's own, or the close frame.
type item struct {
	event *event.Event
	frame []byte
	close *ending
}

func (it item) size() int {
	if it.event != nil {
		return len(it.event.Frame())
	}
	return len(it.frame)
}

// batch is a queue of items. Idle connections hold none; they come from a pool.
type batch struct {
	items []item
	bytes int
}

var batches = sync.Pool{New: func() any { return new(batch) }} //nolint:gochecknoglobals // a pool is shared by nature

func (b *batch) release() {
	if cap(b.items) > pooledItems {
		return // shrink after a burst
	}
	clear(b.items)
	b.items = b.items[:0]
	b.bytes = 0
	batches.Put(b)
}

// joined is the buffer in which small frames meet for one write.
type joined struct {
	bytes []byte
}

var joinBuffers = sync.Pool{New: func() any { return &joined{bytes: make([]byte, 0, joinLimit)} }} //nolint:gochecknoglobals // a pool is shared by nature

// Offer queues an event. It implements hub.Member.
func (c *conn) Offer(e *event.Event) { c.enqueue(item{event: e}) }

// enqueue puts an item last in the queue and starts the writer if it is not at work. A queue that
// has no room ends the connection: its browser reads too slowly, and may come back.
func (c *conn) enqueue(it item) {
	size := it.size()
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	if c.queued+size > c.server.options.QueueBytes {
		c.mu.Unlock()
		c.server.metrics.drops.WithLabelValues(dropTooSlow).Inc()
		c.End(ErrTooSlow)
		return
	}
	c.push(it, size)
	c.mu.Unlock()
}

// push appends to the queue and sees to it that a writer is at work. Its caller holds mu.
func (c *conn) push(it item, size int) {
	if c.queue == nil {
		c.queue, _ = batches.Get().(*batch)
	}
	c.queue.items = append(c.queue.items, it)
	c.queue.bytes += size
	c.queued += size
	c.server.metrics.queuedBytes.add(size)
	if c.wire != nil && !c.writing {
		c.writing = true
		c.tree.Add(1)
		go c.write()
	}
}

// writeLoop writes what is queued, and returns when nothing is left. It runs at most once at a
// time for a connection.
func (c *conn) writeLoop() {
	defer c.tree.Done()
	for {
		c.mu.Lock()
		b := c.queue
		c.queue = nil
		if b == nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()

		err := c.server.guard(c, "write", func() error { return c.writeBatch(b) })

		c.mu.Lock()
		c.queued -= b.bytes
		c.mu.Unlock()
		c.server.metrics.queuedBytes.add(-b.bytes)
		b.release()
		if err != nil {
			c.End(causeOfWrite(err))
		}
	}
}

// writeBatch writes the items in order, joining small frames.
func (c *conn) writeBatch(b *batch) error {
	buf, _ := joinBuffers.Get().(*joined)
	defer func() {
		buf.bytes = buf.bytes[:0]
		joinBuffers.Put(buf)
	}()
	var deliveries int
	var oldest time.Time
	flush := func() error {
		if len(buf.bytes) == 0 {
			return nil
		}
		err := c.wire.writeFrames(buf.bytes)
		buf.bytes = buf.bytes[:0]
		return err
	}
	for _, it := range b.items {
		frame := it.frame
		switch {
		case it.close != nil:
			if err := flush(); err != nil {
				return err
			}
			return c.wire.writeClose(it.close.code, it.close.reason)
		case it.event != nil:
			forward, err := c.admit(it.event)
			if err != nil {
				return err
			}
			if !forward {
				continue
			}
			frame = it.event.Frame()
			if deliveries == 0 {
				oldest = it.event.Received()
			}
			deliveries++
		}
		if len(buf.bytes)+len(frame) > joinLimit {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(frame) > joinLimit || len(b.items) == 1 {
			if err := c.wire.writeFrames(frame); err != nil {
				return err
			}
			continue
		}
		buf.bytes = append(buf.bytes, frame...)
	}
	if err := flush(); err != nil {
		return err
	}
	if deliveries > 0 {
		c.server.metrics.deliveries.Add(float64(deliveries))
		c.server.metrics.latency.Observe(time.Since(oldest).Seconds())
	}
	return nil
}

// admit is the last look at an event before its bytes leave: does the organisation that the event
// names own this connection? Everything before has made sure that it does; should that ever fail,
// the event is dropped, the connection ends and the counter that stays 0 does not. After that the
// consumer may withhold the event.
func (c *conn) admit(e *event.Event) (forward bool, err error) {
	if e.Organization() != c.identity.Organization || c.identity.Organization.IsZero() {
		c.server.metrics.violations.Add(1)
		c.server.log.Error("isolation violation prevented",
			zap.String("connection", c.id), zap.Stringer("organization", c.identity.Organization),
			zap.Stringer("event_organization", e.Organization()), zap.Stringer("group", e.Group()))
		return false, ErrIsolation
	}
	if c.handler == nil {
		return true, nil
	}
	return c.handler.HandleEvent(c.ctx, c, e), nil
}
