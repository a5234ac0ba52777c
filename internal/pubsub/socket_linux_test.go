package pubsub_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"orgcast/internal/pubsub"
)

// socketPair returns a link's connection and its peer.
func socketPair(t *testing.T) (link, peer net.Conn) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	if link, err = pubsub.NewSocket(dialed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		link.Close()
		peer.Close()
	})
	return link, peer
}

// paces are the two ways in which a Read of a link waits: busy or not.
var paces = map[string]bool{"quiet": false, "busy": true}

// TestSocketBytes: every byte arrives once and in order, whichever way each Read waits.
func TestSocketBytes(t *testing.T) {
	link, peer := socketPair(t)
	sent := make([]byte, 4<<20)
	for i := range sent {
		sent[i] = byte(i % 251)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		defer peer.Close()
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%3000)
			if _, err := peer.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	})
	var got []byte
	buffer := make([]byte, 5000)
	for i := 0; ; i++ {
		pubsub.SetBusy(link, i/7%2 == 0)
		n, err := link.Read(buffer)
		got = append(got, buffer[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	writing.Wait()
	if !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, which differ from the %d sent", len(got), len(sent))
	}
}

// TestSocketWrite: bytes that do not fit into the socket at once wait for room.
func TestSocketWrite(t *testing.T) {
	link, peer := socketPair(t)
	sent := bytes.Repeat([]byte("SUBSCRIBE "), 1<<20)
	var writing sync.WaitGroup
	writing.Go(func() {
		if n, err := link.Write(sent); n != len(sent) || err != nil {
			t.Errorf("got %d bytes written, %v, want %d", n, err, len(sent))
		}
		link.Close()
	})
	got, err := io.ReadAll(peer)
	writing.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, %v, want the %d sent", len(got), err, len(sent))
	}
}

func TestSocketClose(t *testing.T) {
	for name, busy := range paces {
		t.Run(name, func(t *testing.T) {
			link, _ := socketPair(t)
			pubsub.SetBusy(link, busy)
			var reading sync.WaitGroup
			reading.Go(func() {
				if n, err := link.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("a Read under way: got %d bytes, %v, want an error", n, err)
				}
			})
			if err := link.Close(); err != nil {
				t.Error(err)
			}
			reading.Wait()
			if _, err := link.Read(make([]byte, 1)); err == nil {
				t.Error("a Read after Close: got no error")
			}
			if _, err := link.Write([]byte("x")); err == nil {
				t.Error("a Write after Close: got no error")
			}
			if err := link.Close(); err != nil {
				t.Errorf("a second Close: got %v", err)
			}
		})
	}
}

func TestSocketDeadlines(t *testing.T) {
	for name, busy := range paces {
		t.Run(name, func(t *testing.T) {
			link, peer := socketPair(t)
			pubsub.SetBusy(link, busy)
			for _, passed := range []bool{true, false} {
				by := time.Now().Add(10 * time.Millisecond)
				if passed {
					by = time.Now().Add(-time.Second)
				}
				if err := link.SetDeadline(by); err != nil {
					t.Fatal(err)
				}
				if _, err := link.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Read: got %v, want %v", err, os.ErrDeadlineExceeded)
				}
				// The peer does not read, so this must run out of room.
				if _, err := link.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Write: got %v, want %v", err, os.ErrDeadlineExceeded)
				}
			}
			// Without deadline it works again.
			if err := link.SetDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			if _, err := peer.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if n, err := link.Read(make([]byte, 8)); n != 1 || err != nil {
				t.Errorf("got %d bytes, %v, want 1", n, err)
			}
		})
	}
}
