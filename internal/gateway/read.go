package gateway

import (
	"errors"
	"fmt"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// serve reads until the connection ends, and tears it down. It returns at once; the goroutine that
// reads hands over to the next one until the last calls the server's gone.
func (c *conn) serve() {
	c.proceed = c.read
	go c.await()
}

// await waits for the browser on a stack that stays small, then lets another goroutine proceed.
func (c *conn) await() {
	c.transport.Await()
	go c.proceed()
}

// read reads what is there, then awaits more. Messages are read after End was called, too, because only
// so is the peer's close frame seen.
func (c *conn) read() {
	for {
		m, err := c.transport.Next(intake{c})
		switch {
		case errors.Is(err, socket.ErrIdle):
			go c.await()
			return
		case err != nil:
			c.tearDown(causeOfRead(err))
			return
		}
		c.server.metrics.frames.Inc()
		if !c.receive(event.Frame(m)) {
			c.End(ErrRateLimit)
		}
	}
}

// receive queues a frame for the consumer and starts receiveLoop if it is not at work. A consumer
// that falls behind by the whole inbox is not waited for, since pongs and the peer's close frame
// would wait too: receive returns false, and the browser is told that it sends too fast. The budget of
// the organization counts the frame until the consumer has handled it.
func (c *conn) receive(f event.Frame) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		c.letGo(f)
		return true
	}
	o := &c.server.options
	if len(c.inbox) >= o.FrameBurst || c.unheard+len(f.Data) > max(o.QueueBytes, int(o.MaxFrame)) {
		c.letGo(f)
		return false
	}
	c.unheard += len(f.Data)
	c.talked = time.Since(c.started)
	c.inbox = append(c.inbox, f)
	if !c.receiving {
		c.receiving = true
		c.tree.Go(c.receiveLoop)
	}
	return true
}

// receiveLoop hands frames to the consumer one by one, and returns when none is left.
func (c *conn) receiveLoop() {
	for {
		c.mu.Lock()
		if c.ended || len(c.inbox) == 0 {
			c.receiving = false
			c.dropInbox()
			c.tellHandled()
			c.mu.Unlock()
			return
		}
		f := c.inbox[0]
		c.inbox[0] = event.Frame{}
		c.inbox = c.inbox[1:]
		c.unheard -= len(f.Data)
		c.mu.Unlock()
		err := c.server.guard(c, "receive", func() error { return c.consumer.Receive(c.ctx, c, f) })
		c.letGo(f)
		if err != nil {
			c.End(err)
		}
	}
}

// dropInbox forgets the frames that nobody handles any more. Its caller holds mu.
func (c *conn) dropInbox() {
	for _, f := range c.inbox {
		c.letGo(f)
	}
	c.droppedFrames(len(c.inbox), c.overdue)
	c.inbox, c.unheard = nil, 0
}

// causeOfRead tells why reading ended.
func causeOfRead(err error) error {
	if closed, ok := errors.AsType[socket.ClosedError](err); ok {
		return peerClosedError{closed.Code}
	}
	switch {
	case errors.Is(err, socket.ErrNotUTF8):
		return ErrNotUTF8
	case errors.Is(err, socket.ErrMessageTooBig):
		return ErrFrameTooBig
	case errors.Is(err, socket.ErrTooManyFrames):
		return ErrRateLimit
	case errors.Is(err, errIntakeFull):
		return fmt.Errorf("%w: %w", ErrRateLimit, err)
	case errors.Is(err, socket.ErrGone):
		return ErrPeerGone
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
