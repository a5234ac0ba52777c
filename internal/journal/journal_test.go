package journal_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/journal"
	"orgcast/internal/testkit"
)

// scripted is a file whose writes call a function.
type scripted struct {
	mu      sync.Mutex
	written bytes.Buffer
	sizes   []int
	write   func(p []byte) (int, error) // nil accepts everything
}

func (s *scripted) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := len(p), error(nil)
	if s.write != nil {
		n, err = s.write(p)
	}
	s.written.Write(p[:n])
	s.sizes = append(s.sizes, n)
	return n, err
}

func (s *scripted) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.String()
}

// stuck is a file whose writes wait until it is released.
type stuck struct {
	scripted

	free chan struct{}
}

func newStuck() *stuck {
	s := &stuck{free: make(chan struct{})}
	s.write = func(p []byte) (int, error) {
		<-s.free
		return len(p), nil
	}
	return s
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }

// finish closes a writer whose reader reads.
func finish(tb testing.TB, w *journal.Writer) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		tb.Error(err)
	}
}

func expectDropped(tb testing.TB, w *journal.Writer, wantFull, wantFailed uint64) {
	tb.Helper()
	if full, failed, _ := w.Dropped(); full != wantFull || failed != wantFailed {
		tb.Errorf("dropped: got %d for want of room and %d that failed, want %d and %d", full, failed, wantFull, wantFailed)
	}
}

// TestWriteNeverWaits: while the reader is stuck, lines are queued up to the limit in bytes, and
// then dropped and counted. Queued lines arrive whole and in order once the reader reads.
func TestWriteNeverWaits(t *testing.T) {
	out := newStuck()
	const limit, line = 1000, 10
	w := journal.NewWriter(out, limit)
	for i := range 300 { // would wait forever
		say(w, "line %04d", i)
	}
	expectDropped(t, w, 300-limit/line, 0)
	close(out.free)
	finish(t, w)
	var want strings.Builder
	for i := range limit / line {
		say(&want, "line %04d", i)
	}
	if got := out.String(); got != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want.String())
	}
}

// TestRoomIsMadeWhileASlowReaderReads: a long queue is written in pieces of whole lines, and each
// piece makes room.
func TestRoomIsMadeWhileASlowReaderReads(t *testing.T) {
	out := &stuck{free: make(chan struct{})}
	out.write = func(p []byte) (int, error) {
		<-out.free
		if p[len(p)-1] != '\n' {
			t.Error("a piece ends within a line")
		}
		return len(p), nil
	}
	line := strings.Repeat("x", 999) // and its newline
	w := journal.NewWriter(out, 64000)
	say(w, "%s", line)
	out.free <- struct{}{} // from here on the writer waits with the next batch
	for range 64 {
		say(w, "%s", line)
	}
	full, _, _ := w.Dropped()
	out.free <- struct{}{}
	testkit.Eventually(t, "room for another line", func() bool {
		before, _, _ := w.Dropped()
		say(w, "%s", line)
		after, _, _ := w.Dropped()
		return before == after
	})
	close(out.free)
	finish(t, w)
	if full > 1 { // the first line may still have been queued
		t.Errorf("dropped %d lines that had room", full)
	}
}

// TestLineBeyondTheLimitIsDropped: such a line does not keep others from being written.
func TestLineBeyondTheLimitIsDropped(t *testing.T) {
	out := new(scripted)
	w := journal.NewWriter(out, 100)
	say(w, "%s", strings.Repeat("x", 100))
	say(w, "short")
	finish(t, w)
	expectDropped(t, w, 1, 0)
	if got := out.String(); got != "short\n" {
		t.Errorf("got %q", got)
	}
}

// TestReaderGoneAndBack: without a reader, lines are counted. The next reader of the fifo gets
// later lines.
func TestReaderGoneAndBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flag int) *os.File {
		f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	reader := open(os.O_RDONLY)
	file := open(os.O_WRONLY)
	defer file.Close()
	w := journal.NewWriter(file, 0)
	say(w, "first")
	if line, err := bufio.NewReader(reader).ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	say(w, "lost")
	testkit.Eventually(t, "the line is counted", func() bool { _, failed, _ := w.Dropped(); return failed == 1 })
	reader = open(os.O_RDONLY)
	defer reader.Close()
	say(w, "second")
	if line, err := bufio.NewReader(reader).ReadString('\n'); err != nil || line != "second\n" {
		t.Errorf("got %q, %v", line, err)
	}
	finish(t, w)
	expectDropped(t, w, 0, 1)
}

// TestFullDisk: ENOSPC is counted line by line.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w := journal.NewWriter(full, 0)
	for i := range 7 {
		say(w, "line %d", i)
	}
	finish(t, w)
	expectDropped(t, w, 0, 7)
}

// TestLinesAreNotGlued: a disk becomes full in the middle of a line. When it has room again, the
// next line begins on a new line.
func TestLinesAreNotGlued(t *testing.T) {
	out := new(scripted)
	room := 9
	out.write = func(p []byte) (int, error) {
		n := min(room, len(p))
		if room -= n; n < len(p) {
			return n, syscall.ENOSPC
		}
		return n, nil
	}
	w := journal.NewWriter(out, 0)
	say(w, "first")
	testkit.Eventually(t, "written", func() bool { return out.String() == "first\n" })
	say(w, "torn apart")
	testkit.Eventually(t, "torn", func() bool { _, failed, _ := w.Dropped(); return failed == 1 })
	say(w, "lost")
	testkit.Eventually(t, "lost", func() bool { _, failed, _ := w.Dropped(); return failed == 2 })
	out.mu.Lock()
	room = 1000
	out.mu.Unlock()
	say(w, "last")
	finish(t, w)
	if got, want := out.String(), "first\ntor\nlast\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	expectDropped(t, w, 0, 2)
}

// TestFileThatIsNotReady: another process has made the file non-blocking, and the file is full for
// a moment. No line is lost.
func TestFileThatIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(scripted)
		attempts := 0
		out.write = func(p []byte) (int, error) {
			if attempts++; attempts < 5 {
				return min(2, len(p)), syscall.EAGAIN
			}
			return len(p), nil
		}
		w := journal.NewWriter(out, 0)
		say(w, "in small pieces")
		finish(t, w)
		if got := out.String(); got != "in small pieces\n" {
			t.Errorf("got %q", got)
		}
		expectDropped(t, w, 0, 0)
	})
}

// TestCloseLosesNothing: a normal Close writes everything, even if the reader is slow.
func TestCloseLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(scripted)
		out.write = func(p []byte) (int, error) {
			time.Sleep(time.Second)
			return len(p), nil
		}
		w := journal.NewWriter(out, 0)
		for i := range 1000 {
			say(w, "line %d of %s", i, strings.Repeat("x", 90))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
		if got := strings.Count(out.String(), "\n"); got != 1000 {
			t.Errorf("got %d lines, want 1000", got)
		}
		if most := slices.Max(out.sizes); most > 16<<10 {
			t.Errorf("a piece of %d bytes", most)
		}
		say(w, "too late")
		expectDropped(t, w, 1, 0)
	})
}

// TestCloseGivesUp: Close returns when its time is up, whether the file hangs or is never ready.
func TestCloseGivesUp(t *testing.T) {
	for name, hangs := range map[string]bool{"hangs": true, "is never ready": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newStuck()
				if !hangs {
					out.write = func([]byte) (int, error) { return 0, syscall.EAGAIN }
				}
				w := journal.NewWriter(out, 0)
				say(w, "line")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := w.Close(ctx); !errors.Is(err, journal.ErrNotFlushed) {
					t.Errorf("got %v, want ErrNotFlushed", err)
				}
				close(out.free) // the reader continues, so the writer ends
			})
		})
	}
}
