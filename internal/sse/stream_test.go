package sse_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/gateway"
	"orgcast/internal/socket"
	"orgcast/internal/sse"
)

var _ gateway.Transport = (*sse.Stream)(nil)

// inBubble runs a test of a stream over an in-memory network without buffers, on a fake clock.
func inBubble(t *testing.T, test func(t *testing.T, s *sse.Stream, client net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		s := newCarrier().NewStream(server)
		test(t, s, client)
		_ = client.Close()
		_ = s.Close()
		synctest.Wait()
	})
}

// TestSlowWriteTimesOut: if a client reads nothing, a write ends after WriteTimeout, and nothing
// follows, because a frame may be incomplete.
func TestSlowWriteTimesOut(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, _ net.Conn) {
		t.Helper()
		began := time.Now()
		if err := s.Write([]byte("data: 1\n\n")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a timeout", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the write took %v, want 10s", took)
		}
		if err := s.Write([]byte("data: 2\n\n")); !errors.Is(err, socket.ErrClosing) {
			t.Errorf("next: got %v, want ErrClosing", err)
		}
		if err := s.WriteClose([]byte("event: close\n\n")); err != nil {
			t.Errorf("close frame: got %v, want that it is left out", err)
		}
		s.Await() // returns at once: nobody waits for this client
	})
}

// TestExpireWhileAWriteWaits: a waiting write ends with the stream.
func TestExpireWhileAWriteWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, _ net.Conn) {
		t.Helper()
		began, written, awaited := time.Now(), make(chan error), make(chan struct{})
		go func() { written <- s.Write([]byte("data: 1\n\n")) }()
		go func() { s.Await(); close(awaited) }()
		synctest.Wait()
		s.Expire(3 * time.Second)
		s.Expire(time.Hour) // the first counts
		if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: got %v, want a timeout", err)
		}
		<-awaited
		if _, err := s.Next(nil); !errors.Is(err, socket.ErrGone) {
			t.Errorf("Next: got %v, want ErrGone", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the end came after %v, want 3s", took)
		}
	})
}

// TestExpireBoundsLaterWrites: a write that begins after Expire has only the rest of the time.
func TestExpireBoundsLaterWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, _ net.Conn) {
		t.Helper()
		began := time.Now()
		s.Expire(2 * time.Second)
		time.Sleep(time.Second)
		if err := s.Write([]byte("data: 1\n\n")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a timeout", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the end came after %v, want 2s", took)
		}
	})
}

// TestCloseWhileAWriteWaits: the write fails at once.
func TestCloseWhileAWriteWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, _ net.Conn) {
		t.Helper()
		began, written := time.Now(), make(chan error)
		go func() { written <- s.Write([]byte("data: 1\n\n")) }()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-written; err == nil {
			t.Error("write: got nil, want an error")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the end came after %v, want at once", took)
		}
	})
}

// TestMutedWhileAWriteWaits: waiting frames are not started after Mute, and started ones are whole,
// so that the close frame can follow.
func TestMutedWhileAWriteWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, client net.Conn) {
		t.Helper()
		frame := []byte("data: " + strings.Repeat("x", 1000) + "\n\n")
		written := make(chan error)
		go func() { written <- s.Write(bytes.Repeat(frame, 100)) }()
		synctest.Wait()
		s.Mute()
		go func() {
			written <- s.WriteClose([]byte("event: close\n\n"))
			_ = s.Close()
		}()
		var got []byte
		go func() {
			got, _ = io.ReadAll(client)
			close(written)
		}()
		if err := <-written; !errors.Is(err, socket.ErrMuted) {
			t.Errorf("write: got %v, want ErrMuted", err)
		}
		if err := <-written; err != nil {
			t.Errorf("close frame: %v", err)
		}
		<-written
		frames, ok := bytes.CutSuffix(got, []byte("event: close\n\n"))
		if want := sse.PieceSize + len(frame); !ok || len(frames)%len(frame) != 0 || len(frames) > want || len(frames) == 0 {
			t.Errorf("got %d bytes of frames of %d, then the close frame: %t; want whole ones, at most %d bytes", len(frames), len(frame), ok, want)
		}
		if err := s.Write(frame); !errors.Is(err, socket.ErrClosing) {
			t.Errorf("after the close frame: got %v, want ErrClosing", err)
		}
	})
}

// TestMuted: only the close frame is sent.
func TestMuted(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, client net.Conn) {
		t.Helper()
		s.Mute()
		if err := s.Write([]byte("data: 1\n\n")); !errors.Is(err, socket.ErrMuted) || !s.Muted() {
			t.Errorf("got %v, want ErrMuted", err)
		}
		go func() {
			_ = s.WriteClose([]byte("event: close\n\n"))
			_ = s.WriteClose([]byte("event: close\n\n")) // once
			_ = s.Close()
		}()
		if got, _ := io.ReadAll(client); string(got) != "event: close\n\n" {
			t.Errorf("got %q", got)
		}
	})
}

// TestClientThatTalks: bytes that a client sends after its request are ignored, and the client is
// cut off if it does not stop.
func TestClientThatTalks(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, client net.Conn) {
		t.Helper()
		awaited := make(chan struct{})
		go func() { s.Await(); close(awaited) }()
		_, _ = client.Write([]byte("\r\n"))
		synctest.Wait()
		select {
		case <-awaited:
			t.Fatal("a line end ended the stream")
		default:
		}
		go func() { _, _ = client.Write(make([]byte, 1<<20)) }() // until the test ends
		<-awaited
		if _, err := s.Next(nil); !errors.Is(err, socket.ErrGone) {
			t.Errorf("Next: got %v, want ErrGone", err)
		}
	})
}

// TestHeard: a client counts as heard when the network accepts bytes.
func TestHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, s *sse.Stream, client net.Conn) {
		t.Helper()
		began := time.Now()
		time.Sleep(time.Minute)
		if got := s.Heard(); got.After(began) {
			t.Errorf("before: got %v", got.Sub(began))
		}
		go func() { _, _ = io.ReadAll(client) }()
		if err := s.Write(newCarrier().PingFrame()); err != nil {
			t.Error(err)
		}
		if got := s.Heard().Sub(began); got != time.Minute {
			t.Errorf("after a heartbeat: got %v, want 1m", got)
		}
	})
}
