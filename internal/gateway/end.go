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

// End implements consumer.Conn. The first cause counts. Depending on the cause, End drops what is
// queued or lets it leave. It queues the close frame after that, and sets a deadline for the rest
// of the connection's life. The reader sees the peer's close frame, or that deadline, and tears
// down.
//
// A cause that mutes also stops an end that is under way, because its events must no longer be
// sent. A drain has nothing to tell a browser that has left, and lets the consumer finish.
func (c *conn) End(cause error) {
	c.mu.Lock()
	attached, how := c.attached, causeOf(cause).how
	if how.is(mute) && attached { // before the upgrade nothing was written, and nothing will be
		c.writer.transport.Mute()
	}
	if c.ended || c.left && how.is(waits) {
		c.mu.Unlock()
		return
	}
	c.ended = true
	if attached { // before the reader can learn of it, and forget the connection
		c.noteEnd(cause)
	}
	c.cancel(cause)
	c.mu.Unlock()
	c.inbox.close()
	if c.writer.seal(cause) && attached { // else the request is refused, or attach sets the deadline
		c.writer.transport.Expire(c.endTime())
	}
	c.writer.flush()
}

// endTime returns how long a connection may take whose outbox is sealed. Nobody gives way for what it
// still holds, so all ending connections of an organization together have a bound of their own, as
// large as that of the open ones. One that exceeds it gets no time.
func (c *conn) endTime() time.Duration {
	o := &c.host.options
	c.mu.Lock()
	defer c.mu.Unlock()
	if held := c.writer.box.Bytes(); c.ending == 0 && !c.gone {
		if c.budget.ending.Add(int64(held)) > int64(o.QueueBytesPerOrganization) {
			c.budget.ending.Add(-int64(held))
			return 0
		}
		c.ending = held
	}
	return o.CloseTimeout
}

// release gives back what endTime took.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget.ending.Add(-int64(c.ending))
	c.gone, c.ending = true, 0
}

// seal queues the close frame for a cause and reports whether it was the first to.
func (w *writer) seal(cause error) (first bool) {
	return w.box.Seal(w.client.kind.goodbye(cause), causeOf(cause).how.is(urgent))
}

// writeFailed is called when nothing can be written anymore. If the browser has disconnected, what
// it sent before may still be on its way: the reader reads it, meets the end, and tears down.
func (c *conn) writeFailed(err error) {
	cause := causeOfWrite(err)
	c.mu.Lock()
	gone := errors.Is(cause, ErrPeerGone) || c.left && errors.Is(cause, ErrTooSlow)
	c.mu.Unlock()
	if !gone {
		c.End(cause)
		return
	}
	c.writer.box.Abandon()
	c.writer.transport.Expire(c.host.options.CloseTimeout)
}

// causeOfWrite returns the cause for an error of writing.
func causeOfWrite(err error) error {
	if errors.Is(err, ErrIsolation) || errors.Is(err, ErrPanic) || errors.Is(err, ErrTooSlow) {
		return err
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return ErrTooSlow
	}
	return ErrPeerGone
}

// tearDown ends the connection for good, when its reader is done: nothing of it is left when it
// returns.
func (c *conn) tearDown(readErr error) {
	c.runOut(readErr)
	c.End(readErr)
	cause := context.Cause(c.ctx)
	// Leave first, so that no events are offered to a connection that waits for a slow hook.
	c.depart(departureOf(cause), c.groups.end(c)...)
	switch {
	case errors.Is(readErr, ErrPeerClosed):
		_ = c.writer.transport.WriteClose(c.kind.goodbye(cause)) // unless it has left already: the browser waits for it
	case !errors.Is(readErr, ErrPeerGone):
		c.writer.transport.Drain()
	}
	// The close frames are through, or the deadline that End set has passed.
	_ = c.writer.transport.Close() // a dead socket shows at the close
	c.host.onClosed(c)
	c.writer.box.Abandon()
	<-c.writer.box.Quiet()
	c.release()
	c.tree.Wait()
	c.disconnect(cause)

	c.noteGone(cause)
	code := causeOf(cause).code
	c.host.metrics.closed.WithLabelValues(closeLabel(code)).Inc()
	c.host.log.Info("connection ended",
		zap.String("connection_id", c.id), zap.Stringer("organization_id", c.identity.Organization), zap.String("user_id", c.identity.UserID),
		zap.String("route", c.route.Pattern), zap.Int("code", int(code)), zap.NamedError("cause", cause), zap.Duration("lasted_seconds", time.Since(c.started)))
	c.host.onEnd(c)
}

// runOut lets the consumer handle what the browser had sent before it left, and lets the answers
// leave: a page may send one message and close at once. The connection's context has not ended yet.
// runOut takes HookTimeout at most, and the browser has its close frame after CloseTimeout. Any
// other end, such as the end of the session, cuts it off. A browser that sent too fast does not get
// it.
func (c *conn) runOut(cause error) {
	if errors.Is(cause, ErrRateLimit) || c.inbox.idle() && c.writer.box.Idle() {
		return
	}
	c.mu.Lock()
	ended := c.ended
	c.left = !ended
	c.mu.Unlock()
	if ended {
		return
	}
	o := &c.host.options
	goodbye := time.AfterFunc(o.CloseTimeout, func() {
		if c.writer.seal(cause) {
			c.writer.transport.Expire(c.endTime())
		}
		if c.writer.handling.Load() { // the writer is in a hook, which the browser's close must not wait for
			_ = c.writer.transport.WriteClose(c.kind.goodbye(cause))
			return
		}
		c.writer.flush()
	})
	defer goodbye.Stop()
	deadline := time.NewTimer(o.HookTimeout)
	defer deadline.Stop()
	for _, over := range []func() <-chan struct{}{c.inbox.allHandled, c.writer.box.Quiet} {
		select {
		case <-over():
		case <-deadline.C:
			c.inbox.expire()
			return
		case <-c.ctx.Done():
			return
		}
	}
}

// disconnect runs the Disconnect hook with its own deadline.
func (c *conn) disconnect(cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.host.options.HookTimeout)
	defer cancel()
	_ = c.guard("disconnect", func() error { // guard has logged; nothing is left to end
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
