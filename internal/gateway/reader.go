package gateway

import (
	"errors"
	"fmt"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// begin starts reading, until the connection ends and is torn down. It returns at once. Each
// reading goroutine hands over to the next one, and the last one calls onEnd.
func (c *conn) begin() {
	c.proceed = c.read
	go c.await()
}

// await waits for the browser on a small stack, then lets another goroutine proceed.
func (c *conn) await() {
	c.writer.transport.Await()
	c.host.crew.run(c.proceed)
}

// read reads what is there, then awaits more. It reads messages even after End was called, because
// otherwise it would not see the peer's close frame.
func (c *conn) read() {
	for {
		m, err := c.writer.transport.Next(intake{&c.client})
		switch {
		case errors.Is(err, socket.ErrIdle):
			go c.await()
			return
		case err != nil:
			c.tearDown(causeOfRead(err))
			return
		}
		c.host.metrics.frames.Inc()
		begin, ok := c.inbox.put(event.RawMessage(m), time.Since(c.started))
		if !ok {
			c.End(ErrRateLimit)
		}
		if !begin {
			continue
		}
		if c.writer.transport.Idle() {
			// Usually nothing follows for now. The stack of this goroutine has grown, so it handles the
			// message, and another one, with a small stack, waits.
			c.tree.Add(1)
			defer c.tree.Done()
			go c.await()
			c.handle()
			return
		}
		c.tree.Go(c.handle)
	}
}

// handle hands frames to the consumer one by one, and returns when none is left. A frame that
// would meet a context that has ended is dropped and counted.
func (c *conn) handle() {
	for {
		if c.ctx.Err() != nil {
			c.inbox.close()
		}
		f, ok := c.inbox.next()
		if !ok {
			return
		}
		err := c.guard("receive", func() error { return c.consumer.Receive(c.ctx, c, f) })
		c.inbox.letGo(f)
		if err != nil {
			c.End(err)
		}
	}
}

// causeOfRead returns the cause for an error of reading.
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
