package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// readBufferSize holds a typical client frame whole; larger ones are read in pieces.
	// Where the wire has read already, coder/websocket needs room for a header only.
	readBufferSize   = 512
	headerBufferSize = 16
	// controlBufferSize holds any control frame whole (RFC 6455, section 5.5: 125 bytes and a
	// header of 2), so that each leaves coder/websocket in a single Write.
	controlBufferSize = 128
	// deadlineSlack is how stale a write deadline may be: setting one costs more than writing
	// some bytes, so it is renewed at most this often.
	deadlineSlack = time.Second

	// drainBytes is what is read at once of what a peer still sends when its connection ends: more than
	// an honest one has under way. Beyond that it is drainPiece after each drainPause.
	drainBytes = 1 << 20
	drainPiece = 16 << 10
	drainPause = 100 * time.Millisecond

	opMask      = 0x0f
	opClose     = 0x08
	pingHeader  = 0x89 // FIN, opcode 9
	pongHeader  = 0x8a // FIN, opcode 10
	closeHeader = 0x88 // FIN, opcode 8
)

// errClosing is returned for writes after the close frame, which must be the last (RFC 6455,
// section 5.5.1).
var errClosing = errors.New("gateway: close frame sent")

// wire is the hijacked connection under coder/websocket. Two parties write to it: coder/websocket
// its pongs, through Write; and we whole prebuilt frames, through tryWrite where
// nobody may wait and through writeFrames elsewhere. wire keeps their frames apart and lets nothing follow a close frame.
type wire struct {
	net.Conn

	options *Options
	fd      int // of a plain TCP socket, for writes that do not wait; else -1
	opened  time.Time
	heard   atomic.Int64 // when the last byte came, in nanoseconds since opened
	in      inbound      // owned by whoever reads

	mu       sync.Mutex    // held while bytes leave
	rest     []byte        // what tryWrite could not send of a frame; nothing else may leave before
	begun    int           // bytes of rest that belong to a frame of which a part has left
	restLast bool          // rest ends with the close frame
	closed   bool          // the close frame left, or a frame was cut short
	deadline time.Duration // when the write deadline was last set, since opened; 0 for never

	final atomic.Bool // the deadline is the connection's last and must not be moved
	muted atomic.Bool // no data frame may be begun any more
}

// errMuted is returned where data frames were left out because the connection may not have them any
// more. The close frame can still be sent.
var errMuted = errors.New("gateway: muted")

// pieceSize is how much is given to the socket at once where that may wait: between two pieces
// it is seen whether the connection may still have the next one.
const pieceSize = 16 << 10

// Write sends a pong of coder/websocket, which hands over each control frame in one call. Its close
// frames go nowhere: the connection sends one of its own when the consumer has handled what came before.
//
// A dead socket shows at the end of what can still be read from it, not here.
func (w *wire) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0]&opMask == opClose {
		return len(p), nil // without waiting for a write under way
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(p), nil
	}
	w.renewDeadline()
	if err := w.send(p); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		w.expire(w.options.CloseTimeout)
	}
	return len(p), nil
}

// writeFrames sends whole data frames, or a ping.
func (w *wire) writeFrames(frames []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errClosing
	}
	w.renewDeadline()
	if err := w.sendRest(); err != nil {
		return err
	}
	return w.sendPieces(frames, 0, false)
}

// direct reports whether tryWrite can send at all.
func (w *wire) direct() bool { return w.fd >= 0 }

// outcome is what became of a tryWrite.
type outcome int

const (
	sentNone outcome = iota // there was no room at all
	sentPart                // the wire keeps the rest, for finish
	sentAll
)

// tryWrite sends whole frames as far as the socket takes them at once; it never waits. What is
// left of frames that it began, the wire keeps, and [wire.finish] sends it. reused says that the
// caller will reuse the bytes, last that they end with the close frame.
func (w *wire) tryWrite(frames []byte, reused, last bool) (outcome, error) {
	if !w.mu.TryLock() {
		return sentNone, nil // coder/websocket is sending a control frame
	}
	defer w.mu.Unlock()
	if w.closed {
		return sentNone, errClosing
	}
	if w.muted.Load() && frames[0]&opMask != opClose {
		return sentNone, nil // writeBatch finds what may leave
	}
	n, err := sendNow(w.fd, frames)
	switch {
	case err != nil:
		w.closed = true
		return sentNone, err
	case n == 0:
		return sentNone, nil
	case n == len(frames):
		w.closed = last
		return sentAll, nil
	}
	w.rest, w.restLast = frames[n:], last
	w.begun = frameEnd(frames, n) - n
	if reused {
		w.rest = bytes.Clone(w.rest)
	}
	return sentPart, nil
}

// finish sends what tryWrite left.
func (w *wire) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.renewDeadline()
	return w.sendRest()
}

// sendRest ends what tryWrite began. Its caller holds mu.
func (w *wire) sendRest() error {
	if len(w.rest) == 0 {
		return nil
	}
	rest := w.rest
	w.rest = nil
	return w.sendPieces(rest, w.begun, w.restLast)
}

// sendPieces writes frames of which the first begun bytes end a frame that must be ended whatever
// happens. If the wire is muted meanwhile, only the close frame, if they end with it, follows.
// After any error but errMuted nothing may follow, since a frame may have been cut short. Its
// caller holds mu.
func (w *wire) sendPieces(frames []byte, begun int, last bool) error {
	muted := false
	for sent := 0; sent < len(frames); {
		end := sent + begun
		begun = 0
		if muted = muted || w.muted.Load(); muted && end == sent {
			if !last {
				return errMuted
			}
			sent, end = lastFrame(frames, sent), len(frames)
		}
		for !muted && end < len(frames) && end-sent < pieceSize {
			end += frameEnd(frames[end:], 1)
		}
		if _, err := w.Conn.Write(frames[sent:end]); err != nil {
			w.closed = true
			return err
		}
		sent = end
	}
	w.closed = w.closed || last
	return nil
}

// frameEnd returns where the frame ends that the byte before n belongs to, in a run of whole frames
// as a server sends them (RFC 6455, section 5.2, without masks).
func frameEnd(frames []byte, n int) int {
	end := 0
	for end < n {
		head := frames[end:]
		switch length := int(head[1]); length {
		case 126:
			end += 4 + int(binary.BigEndian.Uint16(head[2:]))
		case 127:
			end += 10 + int(binary.BigEndian.Uint64(head[2:])) //nolint:gosec // our own, and in memory
		default:
			end += 2 + length
		}
	}
	return end
}

// lastFrame returns where the last of the whole frames begins that stand behind from.
func lastFrame(frames []byte, from int) int {
	for {
		next := from + frameEnd(frames[from:], 1)
		if next == len(frames) {
			return from
		}
		from = next
	}
}

// drain reads away what the peer goes on sending until it has seen our close frame and ends the
// connection, or until the deadline: a socket closed over unread bytes is reset, and the frame lost
// with it. A peer that waits for the end of the connection need not wait for ours, if the frame has
// left. A peer that sends on and on is read slowly after drainBytes: it must not keep a core busy with
// what nobody wants.
func (w *wire) drain() {
	w.closeWrite()
	n, err := io.CopyN(io.Discard, w.Conn, drainBytes)
	for err == nil && n > 0 {
		time.Sleep(drainPause)
		n, err = io.CopyN(io.Discard, w.Conn, drainPiece)
	}
}

// drainUpTo is drain for a stranger, of whom no more than so many bytes are read.
func (w *wire) drainUpTo(limit int64) {
	w.closeWrite()
	_, _ = io.CopyN(io.Discard, w.Conn, limit)
}

// closeWrite tells the peer that nothing follows, if the close frame has left.
func (w *wire) closeWrite() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok && w.closed && len(w.rest) == 0 {
		_ = half.CloseWrite() // a dead socket shows at the next read
	}
}

// Close closes the connection. It waits for a write in progress to fail, so that no tryWrite can
// meet another socket under the same descriptor.
func (w *wire) Close() error {
	_ = w.SetDeadline(time.Unix(1, 0)) // a dead socket shows at the close
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return w.Conn.Close()
}

// writeClose sends the close frame unless one was sent.
func (w *wire) writeClose(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	err := w.send(frame)
	w.closed = true
	return err
}

// closeFrame makes a close frame (RFC 6455, section 5.5.1). The reason is one of ours, and short.
func closeFrame(code websocket.StatusCode, reason string) []byte {
	frame := make([]byte, 4, 4+len(reason))
	frame[0] = closeHeader
	frame[1] = byte(2 + len(reason))                    //nolint:gosec // short
	binary.BigEndian.PutUint16(frame[2:], uint16(code)) //nolint:gosec // close codes have four digits
	return append(frame, reason...)
}

// send writes b. After an error nothing may follow, since a frame may have been cut short. Its
// caller holds mu.
func (w *wire) send(b []byte) error {
	if err := w.sendRest(); err != nil && !errors.Is(err, errMuted) {
		return err
	}
	if w.closed {
		return errClosing
	}
	_, err := w.Conn.Write(b)
	if err != nil {
		w.closed = true
	}
	return err
}

// hear notes that the peer is alive.
func (w *wire) hear() { w.heard.Store(int64(time.Since(w.opened))) }

// lastHeard returns when the peer last sent anything.
func (w *wire) lastHeard() time.Time { return w.opened.Add(time.Duration(w.heard.Load())) }

// renewDeadline bounds the next write. Its caller holds mu.
func (w *wire) renewDeadline() {
	now := time.Now()
	age := now.Sub(w.opened)
	if w.final.Load() || w.deadline > 0 && age-w.deadline < deadlineSlack {
		return
	}
	w.deadline = max(age, 1)
	_ = w.SetWriteDeadline(now.Add(w.options.WriteTimeout + deadlineSlack)) // a dead socket shows at the write
	if w.final.Load() {
		w.setFinal(w.options.WriteTimeout) // expire came in between
	}
}

// expire gives everything that still happens on the connection this long, including a write that
// is waiting at the moment.
func (w *wire) expire(after time.Duration) {
	w.final.Store(true)
	w.setFinal(after)
}

func (w *wire) setFinal(after time.Duration) {
	_ = w.SetDeadline(time.Now().Add(after)) // a dead socket shows at the next use
}

// upgrader is the ResponseWriter that websocket.Accept gets: its Hijack puts a wire with small
// buffers under coder/websocket, in place of net/http's connection with two buffers of 4 KiB.
type upgrader struct {
	http.ResponseWriter

	options *Options
	lent    *lent // set by Hijack
}

// WriteHeader keeps the answer 101 back until Hijack. net/http goes on reading until then, so a
// client that was told to begin could have its first byte taken for one that came too early.
func (u *upgrader) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		u.ResponseWriter.WriteHeader(status)
	}
}

// Write answers in place of coder/websocket, whose text is that of a Go error.
func (u *upgrader) Write(p []byte) (int, error) {
	if _, err := u.ResponseWriter.Write([]byte(`{"code":"handshake"}` + "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Hijack implements http.Hijacker. It sends the answer 101.
func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	var answer bytes.Buffer
	if rw.Reader.Buffered() > 0 {
		// RFC 6455, section 4.1, lets a client send nothing before it has seen the answer.
		answer.WriteString("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		err = errors.New("gateway: data before the handshake was answered")
	} else {
		answer.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
		_ = u.Header().Write(&answer) // a buffer takes everything
		answer.WriteString("\r\n")
	}
	_ = conn.SetWriteDeadline(time.Now().Add(u.options.WriteTimeout)) // a dead socket shows at the write
	if _, writeErr := conn.Write(answer.Bytes()); writeErr != nil || err != nil {
		_ = conn.Close() // the error is what counts
		return nil, nil, errors.Join(err, writeErr)
	}
	w := &wire{Conn: conn, options: u.options, fd: -1, opened: time.Now()}
	w.in.allowed = newAllowance(u.options.FrameBurst)
	if raw, fd := descriptor(conn); raw != nil {
		w.fd, w.in.raw = fd, raw
	}
	u.lent = &lent{wire: w}
	return u.lent, u.lent.buffers(), nil
}
