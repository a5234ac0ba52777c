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

// Stream is a response that does not end. It is a gateway.Transport. One goroutine reads, with
// Await and Next, and calls Close in the end. The other methods are safe for concurrent use.
//
// A client sends nothing, so it counts as heard when the network has accepted written bytes.
type Stream struct {
	conn    net.Conn
	options *Options
	opened  time.Time
	cursor  *cursor // nil if events have no ids specific to this client; owned by the writer

	// Owned by the reader.
	message []byte // the message in the request, nil after it was read
	over    bool   // the client has disconnected

	heard atomic.Int64 // in nanoseconds since opened
	muted atomic.Bool

	writing sync.Mutex // held while bytes are written
	last    bool       // the close frame was written

	mu       sync.Mutex
	deadline time.Time // of writes
	final    time.Time // if set, the deadline of every later write
	end      *time.Timer
}

func newStream(conn net.Conn, o *Options, asked wish) *Stream {
	return &Stream{conn: conn, options: o, opened: time.Now(), message: asked.message, cursor: asked.cursor}
}

// Await waits until there is something to read, or the client has disconnected.
func (s *Stream) Await() {
	if s.message == nil {
		awaitEnd(s.conn)
		s.over = true
	}
}

// Next returns the message in the request, which the budget counts already, and later reports that
// the client has disconnected.
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

// Idle reports whether Next would return [socket.ErrIdle].
func (s *Stream) Idle() bool { return s.message == nil && !s.over }

// Heard returns when the network last accepted bytes.
func (s *Stream) Heard() time.Time { return s.opened.Add(time.Duration(s.heard.Load())) }

// Unfinished reports false, because there are no partial messages.
func (s *Stream) Unfinished() (since time.Time, ok bool) { return time.Time{}, false }

// Begin does nothing, because Upgrade has sent the head of the response.
func (s *Stream) Begin() error { return nil }

// Direct reports false, because writes may wait.
func (s *Stream) Direct() bool { return false }

// Compressed reports false, because streams are not compressed.
func (s *Stream) Compressed() bool { return false }

// TryWrite sends nothing, because that may wait.
func (s *Stream) TryWrite([]byte, socket.How) (socket.Outcome, error) { return socket.SentNone, nil }

// Finish does nothing, because TryWrite begins nothing.
func (s *Stream) Finish() error { return nil }

// WriteEvents sends events, with ids specific to this client if it needs them. These may be longer
// than the events, and no budget counts them, so only one piece of them exists at a time.
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

// WriteFrame sends a frame of the gateway or of a consumer.
func (s *Stream) WriteFrame(frame []byte) error {
	if s.cursor != nil {
		frame = s.cursor.frame(frame)
	}
	return s.Write(frame)
}

// Write sends whole frames. It waits for the client, up to WriteTimeout. If the Stream is muted
// meanwhile, Write returns [socket.ErrMuted] after the current piece.
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

// pieceSize is the minimum written at once, before checking again whether the Stream is muted.
const pieceSize = 16 << 10

// pieceEnd returns the end of the first frame that ends at or after pieceSize.
func pieceEnd(frames []byte) int {
	if len(frames) <= pieceSize {
		return len(frames)
	}
	if i := bytes.Index(frames[pieceSize-1:], frameEnd); i >= 0 {
		return pieceSize - 1 + i + len(frameEnd)
	}
	return len(frames)
}

// frameEnd ends each frame and occurs nowhere else in it, because a line of data begins with its
// name.
var frameEnd = []byte("\n\n") //nolint:gochecknoglobals // constant

// WriteClose sends the last frame, once. Then the stream ends, because its client does not answer.
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

// write writes frames. Its caller holds writing.
func (s *Stream) write(frames []byte) error {
	err := s.renewDeadline()
	if err == nil {
		_, err = s.conn.Write(frames)
	}
	if err != nil {
		s.last = true // a frame may be incomplete
		return err
	}
	s.heard.Store(int64(time.Since(s.opened)))
	return nil
}

// deadlineSlack is how early a write may time out, because setting a deadline costs more than
// writing a few bytes.
const deadlineSlack = time.Second

// renewDeadline sets the deadline of a write, unless Expire has set the final one.
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

// stopReading makes Await return.
func (s *Stream) stopReading() { _ = s.conn.SetReadDeadline(time.Now()) } // fails only if reading has ended

// Mute prevents further writes, except of the close frame.
func (s *Stream) Mute() { s.muted.Store(true) }

// Muted reports whether Mute was called.
func (s *Stream) Muted() bool { return s.muted.Load() }

// Expire ends the stream after some time, including a waiting write.
func (s *Stream) Expire(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	final := time.Now().Add(after)
	if !s.final.IsZero() && !final.Before(s.final) {
		return
	}
	s.final = final
	_ = s.conn.SetWriteDeadline(final) // a dead connection shows at the next write
	if s.end != nil {
		s.end.Stop()
	}
	s.end = time.AfterFunc(after, s.stopReading)
}

// Drain does nothing, because clients send nothing.
func (s *Stream) Drain() {}

// DrainUpTo does nothing, because clients send nothing.
func (s *Stream) DrainUpTo(int64) {}

// Close ends the response. A write in progress fails.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.end != nil {
		s.end.Stop()
	}
	s.mu.Unlock()
	return s.conn.Close() // outside the lock: TLS may wait here, and Expire must not
}
