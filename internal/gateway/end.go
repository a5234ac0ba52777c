package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/socket"
)

// End implements consumer.Conn. The first cause counts. It drops what is queued or lets it leave,
// as the cause wants, queues the close frame behind it, and gives the rest of the connection's
// life a deadline; the reader sees the peer's close frame, or that deadline, and tears down.
//
// A cause that mutes also stops a goodbye under way, whose events it has become wrong to send. A drain
// has nothing to tell a browser that has left, and lets the consumer finish.
func (c *conn) End(cause error) {
	c.mu.Lock()
	how := causeOf(cause).how
	if how.is(mute) && c.transport != nil { // before the upgrade nothing was written, and nothing will be
		c.transport.Mute()
	}
	if c.ended || c.left && how.is(waits) {
		c.mu.Unlock()
		return
	}
	c.ended = true
	c.cancel(cause)
	if c.transport != nil { // else still before the upgrade: it is refused
		c.sayGoodbye(cause)
	}
	c.mu.Unlock()
	c.Flush()
}

// sayGoodbye queues the close frame and lets the deadline run, unless that was done before. Its caller
// holds mu.
func (c *conn) sayGoodbye(cause error) {
	if c.sealed {
		return
	}
	c.sealed = true
	if causeOf(cause).how.is(urgent) {
		c.dropQueueLocked()
	}
	c.transport.Expire(c.server.options.CloseTimeout)
	c.push(item{frame: goodbye(cause), last: true})
}

// goodbye makes the close frame for a cause. A browser that closed gets its own code back, or none if it
// sent none.
func goodbye(cause error) []byte {
	if peer, ok := errors.AsType[peerClosedError](cause); ok {
		return socket.CloseFrame(peer.code, "")
	}
	end := causeOf(cause)
	return socket.CloseFrame(end.code, end.text)
}

// dropQueue forgets what is queued.
func (c *conn) dropQueue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropQueueLocked()
}

func (c *conn) dropQueueLocked() {
	if c.queue == nil {
		return
	}
	c.settle(c.queue)
	c.queue = nil
}

// writeFailed takes note that nothing can be written any more. If the browser is gone, what it sent
// before may still be on its way here: the reader reads it, meets the end, and tears down.
func (c *conn) writeFailed(err error) {
	cause := causeOfWrite(err)
	c.mu.Lock()
	gone := errors.Is(cause, ErrPeerGone) || c.left && errors.Is(cause, ErrTooSlow)
	if gone {
		c.sealed = true
		c.dropQueueLocked()
		c.transport.Expire(c.server.options.CloseTimeout)
		c.tellHandled()
	}
	c.mu.Unlock()
	if !gone {
		c.End(cause)
	}
}

// causeOfWrite tells why writing ended.
func causeOfWrite(err error) error {
	if errors.Is(err, ErrIsolation) || errors.Is(err, ErrPanic) || errors.Is(err, ErrTooSlow) {
		return err
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return ErrTooSlow
	}
	return ErrPeerGone
}

// tearDown ends the connection for good, when its reader is done: nothing of it is left when it returns.
func (c *conn) tearDown(readErr error) {
	c.runOut(readErr)
	c.End(readErr)
	cause := context.Cause(c.ctx)
	// Leave first: nobody offers events to a connection that waits for a slow hook.
	c.leaveAll()
	switch {
	case errors.Is(readErr, ErrPeerClosed):
		_ = c.transport.WriteClose(goodbye(cause)) // if no close frame has left: the browser waits for one
	case !errors.Is(readErr, ErrPeerGone):
		c.transport.Drain()
	}
	// The close frames are through, or the deadline is that End set.
	_ = c.transport.Close() // a dead socket shows at the close
	c.mu.Lock()
	c.gone = true
	c.dropQueueLocked()
	c.mu.Unlock()
	c.tree.Wait()
	c.disconnect(cause)

	code := causeOf(cause).code
	c.server.metrics.closed.WithLabelValues(closeLabel(code)).Inc()
	c.server.log.Info("connection ended",
		zap.String("connection", c.id), zap.Stringer("organization", c.identity.Organization), zap.String("user", c.identity.UserID),
		zap.String("route", c.route.Pattern), zap.Int("code", int(code)), zap.NamedError("cause", cause), zap.Duration("lasted", time.Since(c.started)))
	c.server.forget(c)
}

// runOut lets the consumer handle what the browser had sent before it left, under the connection's
// living context, and lets the answers leave: a page may send one message and close at once. That takes
// HookTimeout at most, and the browser has its close frame after CloseTimeout. Any other end, such as
// that of the session, cuts it off. A browser that sent too fast has no right to it.
func (c *conn) runOut(cause error) {
	c.mu.Lock()
	idle := !c.receiving && !c.writing && c.queue == nil
	if c.ended || idle || errors.Is(cause, ErrRateLimit) {
		c.mu.Unlock()
		return
	}
	handled := make(chan struct{})
	c.left, c.handled = true, handled
	c.mu.Unlock()

	o := &c.server.options
	goodbye := time.AfterFunc(o.CloseTimeout, func() {
		c.mu.Lock()
		c.sayGoodbye(cause)
		c.mu.Unlock()
		if c.handling.Load() { // the writer is in a hook, which the browser's close must not wait for
			_ = c.transport.WriteClose(goodbye(cause))
			return
		}
		c.Flush()
	})
	defer goodbye.Stop()
	deadline := time.NewTimer(o.HookTimeout)
	defer deadline.Stop()
	select {
	case <-handled:
	case <-deadline.C:
		c.mu.Lock()
		c.overdue = true
		c.mu.Unlock()
	case <-c.ctx.Done():
	}
}

// tellHandled ends the wait of runOut if all is handled and written. Its caller holds mu.
func (c *conn) tellHandled() {
	if c.handled != nil && !c.receiving && !c.writing && c.queue == nil {
		close(c.handled)
		c.handled = nil
	}
}

// leaveAll ends all memberships.
func (c *conn) leaveAll() {
	c.mu.Lock()
	groups := c.groups
	c.groups = nil
	for len(c.starts) > 0 {
		c.endStart(c.starts[0].group)
	}
	c.mu.Unlock()
	for _, g := range groups {
		c.server.hub.Leave(g, c)
	}
}

// disconnect runs the Disconnect hook under a fresh deadline.
func (c *conn) disconnect(cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.server.options.HookTimeout)
	defer cancel()
	_ = c.server.guard(c, "disconnect", func() error { // guard has logged; nothing is left to end
		c.consumer.Disconnect(ctx, c, cause)
		return nil
	})
}

// peerClosedError is [ErrPeerClosed] with the code of the browser's close frame.
type peerClosedError struct{ code socket.StatusCode }

// Error implements error.
func (e peerClosedError) Error() string { return fmt.Sprintf("%v: code %d", ErrPeerClosed, e.code) }

// Unwrap makes it an [ErrPeerClosed].
func (peerClosedError) Unwrap() error { return ErrPeerClosed }
