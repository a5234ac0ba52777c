package socket

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/coder/websocket"
)

const (
	// drainBytes is what is read at once of what a peer still sends when its connection ends: more
	// than an honest one has under way. Beyond that it is drainPiece after each drainPause.
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
	StatusNoStatusRcvd            = StatusCode(websocket.StatusNoStatusRcvd) // of a close frame without a code
	StatusInvalidFramePayloadData = StatusCode(websocket.StatusInvalidFramePayloadData)
	StatusPolicyViolation         = StatusCode(websocket.StatusPolicyViolation)
	StatusMessageTooBig           = StatusCode(websocket.StatusMessageTooBig)
	StatusInternalError           = StatusCode(websocket.StatusInternalError)
	StatusServiceRestart          = StatusCode(websocket.StatusServiceRestart)
	StatusTryAgainLater           = StatusCode(websocket.StatusTryAgainLater)
)

// CloseFrame makes a close frame (RFC 6455, section 5.5.1), an empty one for [StatusNoStatusRcvd],
// which no frame may carry. The reason is short: at most 123 bytes.
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

// Expire gives everything that still happens on the connection this long, including a write that
// is waiting at the moment.
func (c *Conn) Expire(after time.Duration) {
	c.final.Store(true)
	c.setFinal(after)
}

func (c *Conn) setFinal(after time.Duration) {
	_ = c.conn.SetDeadline(time.Now().Add(after)) // a dead socket shows at the next use
}

// Drain reads away what the peer goes on sending until it has seen our close frame and ends the
// connection, or until the deadline: a socket closed over unread bytes is reset, and the frame lost
// with it. A peer that waits for the end of the connection need not wait for ours, if the frame has
// left. A peer that sends on and on is read slowly after drainBytes: it must not keep a core busy
// with what nobody wants.
func (c *Conn) Drain() {
	c.closeWrite()
	n, err := io.CopyN(io.Discard, c.conn, drainBytes)
	for err == nil && n > 0 {
		time.Sleep(drainPause)
		n, err = io.CopyN(io.Discard, c.conn, drainPiece)
	}
}

// DrainUpTo is Drain for a stranger, of whom no more than so many bytes are read.
func (c *Conn) DrainUpTo(limit int64) {
	c.closeWrite()
	_, _ = io.CopyN(io.Discard, c.conn, limit)
}

// closeWrite tells the peer that nothing follows, if the close frame has left.
func (c *Conn) closeWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && c.closed && len(c.rest) == 0 {
		_ = half.CloseWrite() // a dead socket shows at the next read
	}
}

// Close closes the connection at once, without a close frame. Whoever reads calls it. It waits for
// a write in progress to fail, so that no TryWrite can meet another socket under the same
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
