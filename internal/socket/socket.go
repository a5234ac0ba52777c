// Package socket speaks RFC 6455 with one peer. It owns the upgrade, frames, close frames and
// pongs, and the system calls that do not wait. It takes whole frames and returns whole messages,
// within limits, and knows nothing about their content.
//
// It is the only package that knows coder/websocket, which reads messages and answers pings.
// Between messages, a [Conn] on a TCP socket does without it: see [Conn.Await]. The same is true
// under TLS, if the listener is one of [ListenUnderTLS].
package socket

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/bucket"
)

const (
	opMask      = 0x0f
	opClose     = 0x08
	pingHeader  = 0x89 // FIN, opcode 9
	pongHeader  = 0x8a // FIN, opcode 10
	closeHeader = 0x88 // FIN, opcode 8
)

// Options say what a handshake agrees on and what a peer may do. Many connections share them, so
// they must not change. All numbers must be above 0.
type Options struct {
	// Protocol is the subprotocol to agree on if the peer offers it, or empty.
	Protocol string
	// OriginPatterns are the pages that may connect, in the form of coder/websocket. Pages of the
	// requested host, and peers that send no origin, may connect too, so the caller must refuse
	// those that it does not want.
	OriginPatterns []string
	// Compress agrees on permessage-deflate, without context takeover, with peers that offer it.
	Compress bool
	// MaxMessage is the largest message of a peer in bytes, as announced and as inflated.
	MaxMessage int64
	// FramesPerSecond and FrameBurst bound frames of every kind: control frames and fragments cost
	// as much as messages.
	FramesPerSecond float64
	FrameBurst      int
	// WriteTimeout bounds one write.
	WriteTimeout time.Duration
	// CloseTimeout is the time left for reading after a pong could not be written.
	CloseTimeout time.Duration
}

// Why a connection cannot go on.
var (
	// ErrClosing is returned for writes after the close frame, which must be the last (RFC 6455,
	// section 5.5.1).
	ErrClosing = errors.New("socket: close frame sent")
	// ErrMuted is returned if data frames were left out because the connection must not have them
	// anymore. The close frame can still be sent.
	ErrMuted = errors.New("socket: muted")
)

// Conn is a hijacked connection. One goroutine reads, with Await and Next, and in the end calls
// Close; everything else is safe for concurrent use. Two parties write: coder/websocket writes its
// pongs, and the caller writes whole prebuilt frames, with TryWrite where nobody may wait and with
// Write elsewhere. Conn keeps their frames apart and lets nothing follow a close frame.
type Conn struct {
	// Fixed after the upgrade.
	conn       net.Conn
	options    *Options
	fd         int      // of a TCP socket, for reads and writes that do not wait; else -1
	carrier    *carrier // of TLS; nil without TLS, or if fd is -1
	opened     time.Time
	compressed bool // permessage-deflate was agreed on

	// Owned by the reading goroutine.
	in     inbound
	parser *parser // nil while it waits for a message

	heard atomic.Int64 // when the last byte came, in nanoseconds since opened
	final atomic.Bool  // the deadline is the connection's last and must not be moved
	muted atomic.Bool  // no data frame may begin anymore

	mu       sync.Mutex    // held while bytes leave
	rest     []byte        // what TryWrite could not send, nil if nothing; it has to leave first
	begun    int           // bytes of rest that complete a frame whose beginning has left
	restLast bool          // rest ends with the close frame
	greets   bool          // rest is the answer to the handshake, which the first frames go along with
	closed   bool          // the close frame left, or a frame was cut short
	deadline time.Duration // when the write deadline was last set, since opened; 0 for never
}

func newConn(c net.Conn, o *Options) *Conn {
	s := &Conn{conn: c, options: o, fd: -1, opened: time.Now()}
	s.in.allowed = bucket.New(o.FrameBurst)
	if raw, fd := descriptor(c); raw != nil {
		s.fd, s.in.raw = fd, raw
	} else if below := carrierOf(c); below != nil && below.take() {
		s.fd, s.in.raw, s.carrier = below.fd, below.raw, below
		s.in.pending = true // crypto/tls may have read more than it has handed out
	}
	return s
}

// Compressed reports whether frames may be compressed.
func (c *Conn) Compressed() bool { return c.compressed }

// Heard returns when the peer last sent anything.
func (c *Conn) Heard() time.Time { return c.opened.Add(time.Duration(c.heard.Load())) }

// hear notes that bytes have come.
func (c *Conn) hear() { c.heard.Store(int64(time.Since(c.opened))) }

// Mute lets no further data frame begin, not even in a write that is waiting. Only a close frame
// can follow.
func (c *Conn) Mute() { c.muted.Store(true) }

// Muted reports whether Mute was called.
func (c *Conn) Muted() bool { return c.muted.Load() }

// PingFrame returns a ping without content. It must not be changed.
func PingFrame() []byte { return pingFrame[:] }

var pingFrame = [...]byte{pingHeader, 0} //nolint:gochecknoglobals // constant bytes
