package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"orgcast/internal/event"
)

// serve reads until the connection ends, and tears it down. It returns at once; the goroutine that
// reads hands over to the next one until the last calls the server's gone.
func (c *conn) serve() {
	if c.wire.in.raw == nil {
		go c.readLoop()
		return
	}
	c.proceed = c.readReady
	c.rest() // a browser that has only just had its answer has hardly sent anything
}

// rest lets the connection wait with as little as it can.
func (c *conn) rest() {
	if c.parser != nil {
		c.parser.retire()
		c.parser = nil
	}
	go c.await()
}

// await waits for the browser on a stack that stays small, then lets another goroutine proceed.
func (c *conn) await() {
	c.wire.await()
	go c.proceed()
}

// readReady reads what is there, then waits for more.
func (c *conn) readReady() {
	err := c.wire.take()
	for err == nil {
		var idle bool
		if idle, err = c.readMessage(); idle {
			c.rest()
			return
		}
	}
	c.tearDown(causeOfRead(err))
}

// readLoop reads messages and waits in the connection itself, where there is no other way.
func (c *conn) readLoop() {
	for {
		if _, err := c.readMessage(); err != nil {
			c.tearDown(causeOfRead(err))
			return
		}
	}
}

// readMessage reads one message and hands it to receiveLoop. idle says that none is there. Messages
// are read after End was called, too, because only so is the peer's close frame seen.
func (c *conn) readMessage() (idle bool, err error) {
	if c.parser == nil {
		if c.wire.idle() {
			return true, nil
		}
		if c.parser, err = c.wire.newParser(c.deflate); err != nil {
			return false, err
		}
	}
	// Without a Done channel the context costs nothing; deadlines on the wire end the read.
	kind, r, err := c.parser.ws.Reader(context.Background())
	if errors.Is(err, errIdle) {
		return true, nil
	}
	var data []byte
	if err == nil {
		data, err = c.readAll(r)
	}
	if err != nil {
		return false, err
	}
	f := event.Frame{Binary: kind == websocket.MessageBinary, Data: data}
	if err := c.parser.ended(); err != nil {
		c.letGo(intakeOf(f))
		return false, err
	}
	c.server.metrics.frames.Inc()
	if kind == websocket.MessageText && !utf8.Valid(data) {
		c.letGo(intakeOf(f))
		return false, ErrNotUTF8
	}
	if !c.receive(f) {
		c.End(ErrRateLimit)
	}
	return false, nil
}

// receive queues a frame for the consumer and starts receiveLoop if it is not at work. A consumer
// that falls behind by the whole inbox is not waited for, since pongs and the peer's close frame
// would wait too: receive returns false, and the browser is told that it sends too fast. The budget of
// the organization counts the frame until the consumer has handled it.
func (c *conn) receive(f event.Frame) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		c.letGo(intakeOf(f))
		return true
	}
	o := &c.server.options
	if len(c.inbox) >= o.FrameBurst || c.unheard+len(f.Data) > max(o.QueueBytes, int(o.MaxFrame)) {
		c.letGo(intakeOf(f))
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
		c.letGo(intakeOf(f))
		if err != nil {
			c.End(err)
		}
	}
}

// dropInbox forgets the frames that nobody handles any more. Its caller holds mu.
func (c *conn) dropInbox() {
	for _, f := range c.inbox {
		c.letGo(intakeOf(f))
	}
	c.droppedFrames(len(c.inbox), c.overdue)
	c.inbox, c.unheard = nil, 0
}

// causeOfRead tells why reading ended.
func causeOfRead(err error) error {
	if closeErr, ok := errors.AsType[websocket.CloseError](err); ok {
		if !utf8.ValidString(closeErr.Reason) { // coder/websocket does not look
			return ErrNotUTF8
		}
		return peerClosedError{closeErr.Code}
	}
	if errors.Is(err, ErrNotUTF8) {
		return ErrNotUTF8
	}
	if errors.Is(err, websocket.ErrMessageTooBig) || errors.Is(err, errMessageTooBig) {
		return ErrFrameTooBig
	}
	if errors.Is(err, errTooManyFrames) {
		return ErrRateLimit
	}
	if errors.Is(err, errIntakeFull) {
		return fmt.Errorf("%w: %w", ErrRateLimit, err)
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return ErrPeerGone
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
