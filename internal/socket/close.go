package socket

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/coder/websocket"
)

const (
	// drainBytes is how much is read without a pause when a connection ends: more than an honest
	// peer has under way. After that it is drainPiece per drainPause.
	drainBytes = 1 << 20
	drainPiece = 16 << 10
	drainPause = 100 * time.Millisecond
)

// StatusCode is the code of a close frame (RFC 6455, section 7.4).
type StatusCode uint16

// The codes of RFC 6455 and of the IANA registry that a server sends. 4000 to 4999 are for
// applications.
const (
	StatusNormalClosure           = StatusCode(websocket.StatusNormalClosure)
	StatusGoingAway               = StatusCode(websocket.StatusGoingAway)
	StatusProtocolError           = StatusCode(websocket.StatusProtocolError)
	StatusUnsupportedData         = StatusCode(websocket.StatusUnsupportedData)
	StatusNoStatusRcvd            = StatusCode(websocket.StatusNoStatusRcvd) // a close frame without a code
	StatusInvalidFramePayloadData = StatusCode(websocket.StatusInvalidFramePayloadData)
	StatusPolicyViolation         = StatusCode(websocket.StatusPolicyViolation)
	StatusMessageTooBig           = StatusCode(websocket.StatusMessageTooBig)
	StatusInternalError           = StatusCode(websocket.StatusInternalError)
	StatusServiceRestart          = StatusCode(websocket.StatusServiceRestart)
	StatusTryAgainLater           = StatusCode(websocket.StatusTryAgainLater)
)

// CloseFrame makes a close frame (RFC 6455, section 5.5.1). For [StatusNoStatusRcvd], which no
// frame may contain, it is empty. The reason has at most 123 bytes.
func CloseFrame(code StatusCode, reason string) []byte {
	if code == StatusNoStatusRcvd {
		return []byte{closeHeader, 0}
	}
	frame := make([]byte, 4, 4+len(reason))
	frame[0] = closeHeader
	frame[1] = byte(2 + len(reason)) //nolint:gosec // short
	binary.BigEndian.PutUint16(frame[2:], uint16(code))
	return append(frame, reason...)
}

// WriteClose sends the close frame unless one was sent.
func (c *Conn) WriteClose(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	err := c.send(frame)
	c.closed = true
	return err
}

// Expire sets the last deadline for everything on the connection, including a write that is waiting
// now.
func (c *Conn) Expire(after time.Duration) {
	c.final.Store(true)
	c.setFinal(after)
}

func (c *Conn) setFinal(after time.Duration) {
	_ = c.conn.SetDeadline(time.Now().Add(after)) // a dead socket shows at the next use
}

// Drain discards what the peer still sends, until it has seen our close frame and ends the
// connection, or until the deadline. A socket that is closed with unread bytes is reset, and the
// frame is lost with it. If the frame has left, Drain also ends our side, so that a peer that waits
// for the end sees it at once. After drainBytes it reads slowly, so that a peer that never stops
// sending does not keep a core busy.
func (c *Conn) Drain() {
	c.closeWrite()
	c.readWaiting()
	n, err := io.CopyN(io.Discard, c.conn, drainBytes)
	for err == nil && n > 0 {
		time.Sleep(drainPause)
		n, err = io.CopyN(io.Discard, c.conn, drainPiece)
	}
}

// DrainUpTo is Drain for a stranger. It reads no more than limit bytes.
func (c *Conn) DrainUpTo(limit int64) {
	c.closeWrite()
	c.readWaiting()
	_, _ = io.CopyN(io.Discard, c.conn, limit)
}

// readWaiting lets reads of the connection itself wait.
func (c *Conn) readWaiting() {
	if c.carrier != nil {
		c.carrier.attach()
	}
}

// closeWrite tells the peer that nothing follows, if the close frame has left.
func (c *Conn) closeWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && c.closed && c.rest == nil {
		_ = half.CloseWrite() // a dead socket shows at the next read
	}
}

// Close closes the connection at once, without a close frame. The reading goroutine calls it. It
// waits for a write in progress to fail, so that no TryWrite can meet another socket under the same
// descriptor.
func (c *Conn) Close() error {
	if c.parser != nil {
		c.parser.close()
	}
	_ = c.conn.SetDeadline(time.Unix(1, 0)) // a dead socket shows at the close
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.conn.Close()
}
