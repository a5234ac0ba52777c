package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// carriers returns a carrier that does not wait, and its peer.
func carriers(t *testing.T) (*carrier, net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	peer, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	accepted, err := ListenUnderTLS(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	c, ok := accepted.(*carrier)
	if !ok {
		t.Fatalf("got a %T, want a carrier", accepted)
	}
	c.take()
	return c, peer
}

// TestCarrierKeepsLittle: what a peer does not read waits up to a bound, and arrives in order when
// it reads after all, no matter who wrote it.
func TestCarrierKeepsLittle(t *testing.T) {
	c, peer := carriers(t)
	var all []byte
	piece := make([]byte, pieceSize)
	write := func(b []byte) error {
		for i := range b {
			b[i] = byte(len(all) + i)
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
		all = append(all, b...)
		return nil
	}
	for c.empty() { // until the kernel has enough
		if err := write(piece); err != nil {
			t.Fatal(err)
		}
	}
	answers := 0 // such as those of crypto/tls to new keys
	for ; ; answers++ {
		if err := write(make([]byte, 27)); errors.Is(err, errBacklog) {
			break
		} else if err != nil || len(c.sealed) > maxSealed {
			t.Fatalf("after %d answers: %v, and %d bytes wait", answers, err, len(c.sealed))
		}
	}
	if answers == 0 {
		t.Error("there was no room for an answer")
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(peer)
		got <- b
	}()
	_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
	if err := c.flush(); err != nil || !c.empty() {
		t.Fatalf("flush: got %v, and empty %v", err, c.empty())
	}
	if err := write(piece); err != nil {
		t.Fatal(err)
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if b := <-got; !bytes.Equal(b, all) {
		t.Errorf("the peer got %d bytes, not the %d that were written", len(b), len(all))
	}
}

// TestCarrierReads: reading takes what is there and never waits, until it is attached again.
func TestCarrierReads(t *testing.T) {
	c, peer := carriers(t)
	b := make([]byte, 8)
	if n, err := c.Read(b); n != 0 || !errors.Is(err, errWouldBlock) {
		t.Fatalf("nothing there: got %d, %v", n, err)
	}
	if _, err := peer.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	_ = c.raw.Read(readable)
	if n, err := c.Read(b); string(b[:n]) != "abc" || err != nil {
		t.Fatalf("got %q, %v, want abc", b[:n], err)
	}
	c.attach()
	go func() { _, _ = peer.Write([]byte("d")) }()
	if n, err := c.Read(b); string(b[:n]) != "d" || err != nil {
		t.Fatalf("waiting: got %q, %v, want d", b[:n], err)
	}
	c.take()
	_ = peer.Close()
	_ = c.raw.Read(readable)
	if n, err := c.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the end: got %d, %v, want EOF", n, err)
	}
}
