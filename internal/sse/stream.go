package sse

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// Stream is a response that does not end. It is a gateway.Transport: one goroutine reads, with
// Await and Next, and in the end calls Close; everything else is safe for concurrent use.
//
// A client sends nothing, so it counts as heard when the network has taken what was written.
type Stream struct {
	conn    net.Conn
	options *Options
	opened  time.Time
	cursor  *cursor // nil if events have no ids of this client's own; owned by whoever writes

	// Owned by the reader.
	message []byte // that the request stands for, nil once it was read
	over    bool   // the client is gone

	heard atomic.Int64 // in nanoseconds since opened
	muted atomic.Bool

	writing sync.Mutex // held while bytes leave
	last    bool       // the close frame has left

	mu       sync.Mutex
	deadline time.Time // of writes
	final    time.Time // the deadline of every write from now on, if it is set
	end      *time.Timer
}

func newStream(conn net.Conn, o *Options, asked wish) *Stream {
	return &Stream{conn: conn, options: o, opened: time.Now(), message: asked.message, cursor: asked.cursor}
}

// Await waits until there is something to read, or the client is gone.
func (s *Stream) Await() {
	if s.message == nil {
		awaitEnd(s.conn)
		s.over = true
	}
}

// Next returns the message that the request stands for, which the budget counts already, and then
// that the client is gone.
func (s *Stream) Next(socket.Budget) (socket.Message, error) {
	switch {
	case s.over:
		return socket.Message{}, socket.ErrGone
	case s.message == nil:
		return socket.Message{}, socket.ErrIdle
	}
	m := socket.Message{Data: s.message}
	s.message = nil
	return m, nil
}

// Heard returns when the network last took something.
func (s *Stream) Heard() time.Time { return s.opened.Add(time.Duration(s.heard.Load())) }

// Unfinished reports that no message is under way: none ever is.
func (s *Stream) Unfinished() (since time.Time, ok bool) { return time.Time{}, false }

// Direct reports that writes may wait.
func (s *Stream) Direct() bool { return false }

// Compressed reports that nothing is compressed.
func (s *Stream) Compressed() bool { return false }

// TryWrite sends nothing, since that may wait.
func (s *Stream) TryWrite([]byte, socket.How) (socket.Outcome, error) { return socket.SentNone, nil }

// Finish has nothing to finish, as TryWrite begins nothing.
func (s *Stream) Finish() error { return nil }

// WriteEvents sends events, with ids of this client's own if it needs them. These may be longer
// than the events, and no budget counts them, so there is never more than a piece of them.
func (s *Stream) WriteEvents(b *event.Burst, shape event.Shape) error {
	if s.cursor == nil || s.cursor.shares(b.Group().Name()) {
		return s.Write(b.Bytes(shape, whole))
	}
	var piece []byte
	for _, e := range b.Events() {
		piece = s.cursor.appendEvent(piece, e, shape)
		if len(piece) < pieceSize {
			continue
		}
		if err := s.Write(piece); err != nil {
			return err
		}
		piece = piece[:0]
	}
	return s.Write(piece)
}

// WriteFrame sends a frame of the gateway's own, or of a consumer.
func (s *Stream) WriteFrame(frame []byte) error {
	if s.cursor != nil {
		frame = s.cursor.frame(frame)
	}
	return s.Write(frame)
}

// Write sends whole frames. It waits for the client, up to WriteTimeout. If the Stream is muted
// meanwhile, it returns [socket.ErrMuted] after the frame that it is at.
func (s *Stream) Write(frames []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for len(frames) > 0 {
		switch {
		case s.last:
			return socket.ErrClosing
		case s.muted.Load():
			return socket.ErrMuted
		}
		n := pieceEnd(frames)
		if err := s.write(frames[:n]); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

// pieceSize is what is written in one go, at least, before the next look whether the Stream is
// muted.
const pieceSize = 16 << 10

// pieceEnd returns where the first frame ends that ends behind pieceSize.
func pieceEnd(frames []byte) int {
	if len(frames) <= pieceSize {
		return len(frames)
	}
	if i := bytes.Index(frames[pieceSize-1:], frameEnd); i >= 0 {
		return pieceSize - 1 + i + len(frameEnd)
	}
	return len(frames)
}

// frameEnd ends each frame and occurs nowhere else in it: a line of data begins with its name.
var frameEnd = []byte("\n\n") //nolint:gochecknoglobals // constant

// WriteClose sends the last frame, once. Then the stream ends, since its client has nothing to
// answer.
func (s *Stream) WriteClose(frame []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	defer s.stopReading()
	if s.last {
		return nil
	}
	err := s.write(frame)
	s.last = true
	return err
}

// write is called with writing held.
func (s *Stream) write(frames []byte) error {
	err := s.renewDeadline()
	if err == nil {
		_, err = s.conn.Write(frames)
	}
	if err != nil {
		s.last = true // a frame may have been cut short
		return err
	}
	s.heard.Store(int64(time.Since(s.opened)))
	return nil
}

// deadlineSlack is how early a write may time out: setting a deadline costs more than writing some
// bytes.
const deadlineSlack = time.Second

// renewDeadline gives a write its time, which Expire may have bounded.
func (s *Stream) renewDeadline() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline := time.Now().Add(s.options.WriteTimeout)
	if !s.final.IsZero() || deadline.Sub(s.deadline) < min(deadlineSlack, s.options.WriteTimeout/2) {
		return nil
	}
	s.deadline = deadline
	return s.conn.SetWriteDeadline(deadline)
}

// stopReading has Await return.
func (s *Stream) stopReading() { _ = s.conn.SetReadDeadline(time.Now()) } // a dead connection has ended its reader

// Mute lets nothing but the close frame be begun any more.
func (s *Stream) Mute() { s.muted.Store(true) }

// Muted reports whether Mute was called.
func (s *Stream) Muted() bool { return s.muted.Load() }

// Expire ends the stream after some time, a write that waits included.
func (s *Stream) Expire(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	final := time.Now().Add(after)
	if !s.final.IsZero() && !final.Before(s.final) {
		return
	}
	s.final = final
	_ = s.conn.SetWriteDeadline(final) // a dead connection shows at the write
	if s.end != nil {
		s.end.Stop()
	}
	s.end = time.AfterFunc(after, s.stopReading)
}

// Drain has nothing to read.
func (s *Stream) Drain() {}

// DrainUpTo has nothing to read.
func (s *Stream) DrainUpTo(int64) {}

// Close ends the response. A write under way fails.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.end != nil {
		s.end.Stop()
	}
	s.mu.Unlock()
	return s.conn.Close() // TLS may wait here, and Expire must not
}
