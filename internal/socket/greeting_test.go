package socket_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// greeted connects without Begin, and returns the server's end and what the client has to read.
func greeted(t *testing.T, on kind) (*socket.Conn, net.Conn) {
	t.Helper()
	o := options()
	conns := make(chan *socket.Conn, 1)
	dial := serveWith(t, on, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := socket.Upgrade(w, r, &o)
		if err != nil {
			t.Error(err)
		}
		conns <- c
	}))
	client, err := dial(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	_ = client.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := client.Write(testkit.Handshake{}.Bytes()); err != nil {
		t.Fatal(err)
	}
	c := <-conns
	t.Cleanup(func() { _ = c.Close() })
	return c, client
}

// TestAnswerLeavesFirst: the answer to a handshake leaves before everything else, once, no matter who
// writes first and how.
func TestAnswerLeavesFirst(t *testing.T) {
	first := frames(5)
	for name, test := range map[string]struct {
		write func(c *socket.Conn) error
		want  []byte
	}{
		"Begin":          {func(c *socket.Conn) error { return c.Begin() }, nil},
		"Write":          {func(c *socket.Conn) error { return c.Write(first) }, first},
		"WriteClose":     {func(c *socket.Conn) error { return c.WriteClose(socket.CloseFrame(4000, "bye")) }, socket.CloseFrame(4000, "bye")},
		"Write if muted": {func(c *socket.Conn) error { c.Mute(); _ = c.Write(first); return nil }, nil},
		"TryWrite": {func(c *socket.Conn) error {
			if !c.Direct() {
				return c.Write(first)
			}
			sent, err := c.TryWrite(first, 0)
			if sent != socket.SentAll {
				t.Errorf("TryWrite: got %v, want all sent", sent)
			}
			return err
		}, first},
	} {
		t.Run(name, func(t *testing.T) {
			for _, on := range []kind{onTCP, onLent, onTLS, onPipe} {
				t.Run(string(on), func(t *testing.T) {
					c, client := greeted(t, on)
					wrote := make(chan error, 1)
					go func() {
						err := test.write(c)
						if err == nil {
							err = c.Begin() // nothing, by now
						}
						_ = c.Close()
						wrote <- err
					}()
					r := bufio.NewReader(client)
					answer, err := http.ReadResponse(r, nil)
					if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
						t.Fatalf("got %v, %v, want the answer", answer, err)
					}
					rest, _ := io.ReadAll(r) // the end of a pipe is an error
					if !bytes.Equal(rest, test.want) {
						t.Errorf("after the answer: got %q, want %q", rest, test.want)
					}
					if err := <-wrote; err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// TestBeginWaitsForNoWriter: a writer that waits for a client which does not read has sent the answer
// first, so Begin has nothing to wait for, and reading can begin.
func TestBeginWaitsForNoWriter(t *testing.T) {
	for _, on := range []kind{onTCP, onLent, onTLS, onPipe} {
		t.Run(string(on), func(t *testing.T) {
			c, client := greeted(t, on)
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				_ = c.Write(bytes.Repeat(frames(5), 1<<20)) // more than sockets hold; it ends with the connection
			}()
			if _, err := client.Read(make([]byte, 1)); err != nil { // the writer is at work
				t.Fatal(err)
			}
			begun := make(chan error, 1)
			go func() { begun <- c.Begin() }()
			select {
			case err := <-begun:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(testkit.Patience):
				t.Error("Begin waits for the writer")
			}
			_ = c.Close()
			<-wrote
		})
	}
}

// TestAnswerAndPartOfTheFrames: if the socket takes the answer and a part of the first frames, the rest
// follows.
func TestAnswerAndPartOfTheFrames(t *testing.T) {
	onDirect(t, func(t *testing.T, on kind) {
		t.Helper()
		c, client := greeted(t, on)
		want, _ := manyFrames()
		if sent, err := c.TryWrite(want, 0); sent != socket.SentPart || err != nil {
			t.Fatalf("got %v, %v, want a part", sent, err)
		}
		c.Mute() // so that only the frame whose beginning has left is finished
		finished := make(chan error, 1)
		go func() {
			_ = c.Finish()
			err := c.WriteClose(socket.CloseFrame(4000, "bye"))
			c.Drain()
			_ = c.Close()
			finished <- err
		}()
		r := bufio.NewReader(client)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("got %v, %v, want the answer", answer, err)
		}
		var got bytes.Buffer
		goodbye := socket.CloseFrame(4000, "bye")
		for b := make([]byte, 64<<10); !bytes.HasSuffix(got.Bytes(), goodbye); {
			n, err := r.Read(b)
			got.Write(b[:n])
			if err != nil {
				t.Fatalf("after %d bytes: %v", got.Len(), err)
			}
		}
		_ = client.Close()
		data := got.Bytes()[:got.Len()-len(goodbye)]
		if !bytes.HasPrefix(want, data) || len(data) == len(want) || socket.FrameEnd(want, len(data)) != len(data) {
			t.Errorf("got %d bytes, want whole frames, the first of %d bytes", len(data), len(want))
		}
		if err := <-finished; err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
	})
}
