package socket

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"orgcast/internal/bucket"
)

// ErrIdle is returned by Next where a message has ended and no other has begun. coder/websocket
// gets it from its reader, passes it on, and can be called again. So it does not hold a goroutine,
// deep in its stack, while nothing comes.
var ErrIdle = errors.New("socket: no message under way")

// Why reading ends. Any other error of Next tells how the peer broke RFC 6455, or comes from the
// Budget.
var (
	// ErrGone means that the connection broke without a close frame, or its deadline has passed.
	ErrGone = errors.New("socket: connection lost")
	// ErrNotUTF8 means that a text, or the reason in a close frame, is not UTF-8.
	ErrNotUTF8 = errors.New("socket: text is not UTF-8")
	// ErrTooManyFrames means that the peer exceeds its rate limit.
	ErrTooManyFrames = errors.New("socket: too many frames")
	// ErrMessageTooBig means that the peer announces or sends a message over the limit.
	ErrMessageTooBig = errors.New("socket: message too big")
)

// ClosedError means that the peer has sent a close frame.
type ClosedError struct{ Code StatusCode }

// Error implements error.
func (e ClosedError) Error() string { return fmt.Sprintf("socket: closed by peer: code %d", e.Code) }

// readChunkSize is how much is read from a socket at once.
const readChunkSize = 4 << 10

type readChunk [readChunkSize]byte

var readChunks = sync.Pool{New: func() any { return new(readChunk) }} //nolint:gochecknoglobals // a pool is shared by nature

// inbound is the reading half of a Conn. If raw is set, the Conn never waits between messages, so
// an idle connection has neither a read buffer nor a grown stack: its one goroutine waits in Await,
// a few small frames deep, and starts another one when bytes come.
type inbound struct {
	raw     syscall.RawConn
	pending bool       // there may be something to receive
	woken   bool       // the poller has been asked to wait
	broken  error      // why nothing more can be received, nil while it can
	chunk   *readChunk // holds bytes that nobody has asked for yet; nil if there are none
	from    uint16     // they begin here in chunk
	to      uint16     // and end here
	frame   framing
	record  int // bytes of the budget for a record of TLS that has begun to come
	// begun is the age of the connection, in nanoseconds, at which the current message or record
	// began; 0 between them. [Conn.Unfinished] reads it.
	begun   atomic.Int64
	allowed bucket.Bucket
}

// ready returns the bytes that have come and that nobody has asked for yet.
func (in *inbound) ready() []byte {
	if in.chunk == nil {
		return nil
	}
	return in.chunk[in.from:in.to]
}

// Await waits until something can be read, or reading would fail. Call Next after it. Await keeps
// its stack small. Where only Next can wait, or need not, Await returns at once.
func (c *Conn) Await() {
	if !c.idle() {
		return
	}
	c.in.woken = false
	_ = c.in.raw.Read(c.in.wait) // Next meets the same error
	c.in.pending = true
}

// wait reports whether waiting is over: there is something, or the poller says so, which Next sees by
// itself.
func (in *inbound) wait(fd uintptr) bool {
	if in.woken {
		return true
	}
	in.woken = true
	return readable(fd)
}

// Next returns the next message, or why there is none. After [ErrIdle] the caller should call
// Await; after any other error nothing more can be read. The budget counts the memory of a message
// while it comes, and keeps counting [Held] of a message that Next returns. Under TLS, it counts the
// memory of a record that has begun to come, too.
func (c *Conn) Next(b Budget) (Message, error) {
	m, err := c.next(b)
	if c.carrier == nil || err == nil {
		return m, err
	}
	return m, c.countRecord(b, err)
}

// countRecord has the budget count what holds a part of a record, after Next has found no message.
func (c *Conn) countRecord(b Budget, err error) error {
	held := 0
	if errors.Is(err, ErrIdle) {
		held = c.partial()
		c.noteBegun(held > 0)
	}
	more := held - c.in.record
	if more > 0 {
		if full := b.Take(more); full != nil {
			held, more, err = 0, -c.in.record, full
		}
	}
	if more < 0 {
		b.Give(-more)
	}
	c.in.record = held
	return err
}

// partial returns how many bytes crypto/tls holds of a record that has begun to come.
func (c *Conn) partial() int {
	secure, ok := c.conn.(*tls.Conn)
	if !ok {
		return 0
	}
	return partial(secure)
}

// next implements Next, except for records that have begun to come.
func (c *Conn) next(b Budget) (Message, error) {
	for c.more() {
		c.in.broken = c.receive()
	}
	if c.in.broken != nil {
		return Message{}, whyEnded(c.in.broken)
	}
	if c.idle() {
		c.dropParser()
		return Message{}, ErrIdle
	}
	if c.in.frame.between() {
		if m, ok, err := c.nextWhole(b); ok {
			return m, err
		}
	}
	if c.parser == nil {
		p, err := c.newParser()
		if err != nil {
			return Message{}, whyEnded(err)
		}
		c.parser = p
	}
	// Without a Done channel the context costs nothing; deadlines on the connection end the read.
	kind, r, err := c.parser.ws.Reader(context.Background())
	switch {
	case errors.Is(err, ErrIdle):
		c.dropParser()
		return Message{}, ErrIdle
	case err != nil:
		return Message{}, whyEnded(err)
	}
	data, err := c.readAll(r, b)
	if err != nil {
		return Message{}, err
	}
	if err := c.parser.ended(); err != nil {
		b.Give(Held(data))
		return Message{}, whyEnded(err)
	}
	if kind == websocket.MessageText && !utf8.Valid(data) {
		b.Give(Held(data))
		return Message{}, ErrNotUTF8
	}
	return Message{Binary: kind == websocket.MessageBinary, Data: data}, nil
}

// whyEnded turns an error of coder/websocket or of the connection into one of this package.
func whyEnded(err error) error {
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		if !utf8.ValidString(closed.Reason) { // coder/websocket does not look
			return ErrNotUTF8
		}
		return ClosedError{StatusCode(closed.Code)} //nolint:gosec // two bytes of a close frame
	}
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig), errors.Is(err, ErrMessageTooBig):
		return ErrMessageTooBig
	case errors.Is(err, ErrTooManyFrames):
		return ErrTooManyFrames
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok { // alerts are net.Errors
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// count counts the frames that have come, and returns an error if they exceed a limit.
func (c *Conn) count() error {
	for ; c.in.frame.begun > 0; c.in.frame.begun-- {
		if !c.in.allowed.Take(time.Since(c.opened), c.options.FramesPerSecond, c.options.FrameBurst) {
			return ErrTooManyFrames
		}
	}
	if c.in.frame.tooBig(uint64(c.options.MaxMessage)) { //nolint:gosec // a limit is not negative
		return ErrMessageTooBig
	}
	return nil
}

// receive reads what the socket has, for read to hand out.
func (c *Conn) receive() error {
	chunk, _ := readChunks.Get().(*readChunk)
	n, again, err := c.receiveNow(chunk[:])
	switch {
	case again:
		readChunks.Put(chunk)
		// It was either a false alarm or the deadline, which only the connection itself can tell.
		return c.in.raw.Read(func(uintptr) bool { return true })
	case err == nil && n == 0:
		err = io.EOF
		fallthrough
	case err != nil:
		readChunks.Put(chunk)
		return err
	}
	c.hear()
	if isPong(chunk[:n]) && c.in.frame.between() {
		readChunks.Put(chunk)
		c.in.frame.begun++
		return c.count()
	}
	c.in.chunk, c.in.from, c.in.to = chunk, 0, uint16(n) //nolint:gosec // at most readChunkSize
	return nil
}

// receiveNow reads what has come, without waiting. Under TLS, crypto/tls may have more of it until
// again is true.
func (c *Conn) receiveNow(b []byte) (n int, again bool, err error) {
	if c.carrier == nil {
		c.in.pending = false
		return receiveNow(c.fd, b)
	}
	n, err = c.conn.Read(b)
	switch {
	case n > 0:
		return n, false, nil // the next call meets the error, if there is one
	case errors.Is(err, errWouldBlock):
		c.in.pending = false
		if secure, ok := c.conn.(*tls.Conn); ok {
			spare(secure)
		}
		return 0, true, nil
	}
	return 0, false, err
}

// isPong reports whether b is exactly one pong of a client (RFC 6455, section 5.5.3). It says only
// that the client is alive. Most frames of a quiet client are pongs, and each would leave a
// kilobyte of garbage if it went through coder/websocket.
func isPong(b []byte) bool {
	const maskBit, header = 0x80, 6
	return len(b) >= header && b[0] == pongHeader && b[1]&maskBit != 0 && b[1]&^maskBit <= 125 && len(b) == header+int(b[1]&^maskBit)
}

// Idle reports whether Next would return [ErrIdle], which it then need not be asked. It never waits.
// It is false while a record has begun to come, which Next has to count.
// The goroutine that reads calls it.
func (c *Conn) Idle() bool {
	if c.in.frame.between() && c.more() { // crypto/tls may have handed out all that has come
		c.in.broken = c.receive()
	}
	if c.in.broken != nil || !c.idle() || c.carrier != nil && c.partial() != c.in.record {
		return false
	}
	c.dropParser()
	return true
}

// more reports whether there may be something to receive, and room for it.
func (c *Conn) more() bool { return c.in.pending && c.in.chunk == nil && c.in.broken == nil }

// idle reports whether no message is under way and no received byte waits to be read.
func (c *Conn) idle() bool {
	return c.in.raw != nil && c.in.chunk == nil && !c.in.pending && c.in.frame.between()
}

// read hands out what receive has read, but never bytes of two frames at once: see [parser.ended].
// Between messages it does not wait: see [ErrIdle].
func (c *Conn) read(p []byte) (int, error) {
	in := &c.in
	if c.idle() {
		return 0, ErrIdle
	}
	if c.carrier != nil {
		if err := c.receiveMore(); err != nil {
			return 0, err
		}
	}
	p = p[:min(uint64(len(p)), in.frame.want())]
	if in.chunk != nil {
		n := copy(p, in.ready())
		return n, c.take(n)
	}
	n, err := c.conn.Read(p)
	err = gone(err)
	if n > 0 {
		c.hear()
		c.pass(p[:n])
		err = cmp.Or(c.count(), err)
	}
	return n, err
}

// take takes n bytes of those that have come.
func (c *Conn) take(n int) error {
	in := &c.in
	c.pass(in.ready()[:n])
	if in.from += uint16(n); in.from == in.to { //nolint:gosec // at most readChunkSize
		readChunks.Put(in.chunk)
		in.chunk = nil
	}
	return c.count()
}

// receiveMore waits, unless no message is under way, until bytes are ready.
func (c *Conn) receiveMore() error {
	for in := &c.in; in.chunk == nil; {
		if c.idle() {
			return ErrIdle
		}
		if !in.pending {
			if err := in.raw.Read(readable); err != nil {
				return err
			}
			in.pending = true
		}
		if err := c.receive(); err != nil {
			return gone(err)
		}
	}
	return nil
}

// gone replaces io.EOF, which coder/websocket takes for the end of a message.
func gone(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrGone
	}
	return err
}

// pass notes bytes of the client, and when the message began that they leave unfinished. Control
// frames between its fragments do not change that time.
func (c *Conn) pass(p []byte) {
	c.in.frame.pass(p)
	c.noteBegun(!c.in.frame.between())
}

// noteBegun notes whether something is under way, and since when.
func (c *Conn) noteBegun(under bool) {
	begun := &c.in.begun
	switch {
	case !under && begun.Load() != 0:
		begun.Store(0)
	case under && begun.Load() == 0:
		begun.Store(max(1, int64(time.Since(c.opened))))
	}
}

// Unfinished returns when the current message or record of TLS began. ok is false between them.
func (c *Conn) Unfinished() (since time.Time, ok bool) {
	begun := c.in.begun.Load()
	return c.opened.Add(time.Duration(begun)), begun != 0
}
