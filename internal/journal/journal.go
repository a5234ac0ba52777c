// Package journal is the log of a process. It has a bounded queue between the parts that write
// lines and their reader, and bounds the lines that one organization can cause.
//
// The reader of standard error may be slow, stuck or stopped, and a disk may be full. None of that
// may block a part that logs, or end the process, so lines are dropped and counted instead.
package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// DefaultBytes is how much may wait for the reader: about 700 lines, more than a busy reader
	// leaves unread.
	DefaultBytes = 256 << 10
	// chunk is the most that is written at once, so that a slow reader frees space as it reads.
	chunk = 16 << 10
	// retryPause is how long to wait if the file is not ready. That happens if another process that
	// shares the file has made it non-blocking.
	retryPause = 10 * time.Millisecond
)

// ErrNotFlushed is returned by [Writer.Close] when lines were left unwritten.
var ErrNotFlushed = errors.New("journal: timed out waiting for the log reader")

// Writer passes lines on to a file through a bounded queue. Write never blocks and never fails.
// Writer is safe for concurrent use.
type Writer struct {
	out   io.Writer
	limit int // bytes

	mu      sync.Mutex
	pending []byte // whole lines, in order
	writing int    // bytes that run has taken and not yet written
	closed  bool

	wake    chan struct{} // capacity 1: one token means that lines are pending; never closed
	closing chan struct{} // closed by Close
	abandon chan struct{} // closed by Close when its time is up
	done    chan struct{} // closed by run

	// Owned by run.
	spare []byte // an empty buffer for the next lines
	torn  bool   // the file ends in the middle of a line

	full, failed, sampled atomic.Uint64 // lines
}

// NewWriter returns a writer to out with room for limit bytes, or [DefaultBytes] if that is zero.
// out may block and fail. Only its reader may close it before the writer is closed.
func NewWriter(out io.Writer, limit int) *Writer {
	if limit == 0 {
		limit = DefaultBytes
	}
	w := &Writer{
		out: out, limit: limit,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), abandon: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run() // Close waits for its end
	return w
}

// Write queues lines, or drops and counts them if there is no room. The lines of one call stay
// together. The error is always nil: a caller that logs could not handle one.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	fits := !w.closed && len(w.pending)+w.writing+len(p) <= w.limit
	if fits {
		w.pending = append(w.pending, p...)
	}
	w.mu.Unlock()
	if !fits {
		w.full.Add(lines(p))
		return len(p), nil
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

// CountSampled counts a line that another sampler suppressed.
func (w *Writer) CountSampled() { w.sampled.Add(1) }

// Close writes the queued lines, until ctx ends. If the reader is still stuck, it returns
// [ErrNotFlushed]. The goroutine that waits for the reader ends when the reader reads or exits.
// Later lines are dropped. Close must be called once.
func (w *Writer) Close(ctx context.Context) error {
	close(w.closing)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		close(w.abandon)
		return ErrNotFlushed
	}
}

// run writes queued lines until the writer is closed.
func (w *Writer) run() {
	defer close(w.done)
	for {
		select {
		case <-w.wake:
			w.drain()
		case <-w.closing:
			w.drain()
			w.mu.Lock()
			w.closed = true
			w.mu.Unlock()
			w.drain() // lines that came in between
			return
		}
	}
}

// drain writes until the queue is empty.
func (w *Writer) drain() {
	for {
		batch := w.swap()
		if len(batch) == 0 {
			return
		}
		for rest := batch; len(rest) > 0; {
			n := wholeLines(rest)
			w.flush(rest[:n])
			rest = rest[n:]
			w.mu.Lock()
			w.writing -= n
			w.mu.Unlock()
		}
		if cap(batch) <= chunk { // otherwise a burst would keep its memory
			w.spare = batch[:0]
		}
	}
}

// swap returns the queued lines, which the caller then owns, and starts an empty queue.
func (w *Writer) swap() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.pending
	w.pending, w.spare = w.spare, nil
	w.writing = len(batch)
	return batch
}

// flush writes lines, or counts those that it cannot write.
func (w *Writer) flush(p []byte) {
	if w.torn { // the next line must not continue a partial one
		if n, _ := w.writeAll([]byte{'\n'}); n == 0 { // counted here
			w.failed.Add(lines(p))
			return
		}
		w.torn = false
	}
	n, err := w.writeAll(p)
	if err == nil {
		return
	}
	w.failed.Add(lines(p[n:]))
	w.torn = n > 0 && p[n-1] != '\n'
}

// writeAll writes p to the file, waits while the file is not ready, and returns how much was
// written.
func (w *Writer) writeAll(p []byte) (written int, err error) {
	for {
		n, err := w.out.Write(p[written:])
		written += n
		if !errors.Is(err, syscall.EAGAIN) {
			return written, err
		}
		select {
		case <-time.After(retryPause):
		case <-w.abandon:
			return written, err
		}
	}
}

// wholeLines returns how many bytes of p are whole lines, at most a chunk unless the first line is
// longer.
func wholeLines(p []byte) int {
	if len(p) <= chunk {
		return len(p)
	}
	if i := bytes.LastIndexByte(p[:chunk], '\n'); i >= 0 {
		return i + 1
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return i + 1
	}
	return len(p)
}

// lines returns how many lines p has. The last one may lack its newline.
func lines(p []byte) uint64 {
	n := bytes.Count(p, []byte{'\n'})
	if len(p) > 0 && p[len(p)-1] != '\n' {
		n++
	}
	return uint64(n) //nolint:gosec // a count
}
