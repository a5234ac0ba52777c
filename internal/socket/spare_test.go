package socket

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// TestSpare: crypto/tls holds the buffers of its handshake where spare looks for them, and goes on
// with smaller ones, also when half a record has come.
func TestSpare(t *testing.T) {
	if len(tlsBuffers) != 2 {
		t.Fatalf("found %d buffers in a tls.Conn, want 2: this version of Go has them elsewhere", len(tlsBuffers))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	below, peer := carriers(t)
	below.attach()
	below.keeping = false
	server := tls.Server(below, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}})
	held := &halves{Conn: peer}
	client := tls.Client(held, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	below.take()

	if size(server) < 2*spareBuffer {
		t.Fatalf("the handshake left %d bytes of buffers, so nothing is to be spared", size(server))
	}
	spare(server)
	if got := size(server); got != 0 {
		t.Errorf("got %d bytes of buffers, want none", got)
	}
	for _, n := range []int{1, 1000, 16 << 10, 1} {
		want := bytes.Repeat([]byte{byte(n)}, n)
		var got []byte
		split := false
		held.half = true
		for _, part := range [][]byte{want, want} {
			if _, err := client.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(time.Minute); len(got) < 2*n; {
			chunk := make([]byte, readChunkSize)
			read, err := server.Read(chunk)
			switch {
			case read > 0:
				got = append(got, chunk[:read]...)
			case err == errWouldBlock: //nolint:errorlint // crypto/tls returns it as it is
				split = split || size(server) > 0 && held.holding
				spare(server) // in the middle of a record, too
				if err := held.release(); err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %d of %d bytes", len(got), 2*n)
			}
		}
		if !bytes.Equal(got, append(want, want...)) {
			t.Errorf("%d bytes arrived changed", n)
		}
		if !split {
			t.Errorf("%d bytes: there was no half of a record", n)
		}
		if _, err := server.Read(make([]byte, 1)); err != errWouldBlock { //nolint:errorlint // as above
			t.Fatalf("got %v, want that nothing comes", err)
		}
		spare(server)
		if got := size(server); got > 2*spareBuffer {
			t.Errorf("after %d bytes: got %d bytes of buffers, want at most %d", n, got, 2*spareBuffer)
		}
	}
}

// size returns how large the buffers of a connection are.
func size(c *tls.Conn) (n int) {
	for b := range buffersOf(c) {
		n += b.Cap()
	}
	return n
}

// halves lets half of the next write pass, and holds back what follows until it is released.
type halves struct {
	net.Conn

	half    bool
	holding bool
	kept    []byte
}

// Write implements net.Conn.
func (h *halves) Write(p []byte) (int, error) {
	pass := len(p)
	switch {
	case h.holding:
		pass = 0
	case h.half:
		h.half, h.holding, pass = false, true, len(p)/2
	}
	h.kept = append(h.kept, p[pass:]...)
	_, err := h.Conn.Write(p[:pass])
	return len(p), err
}

// release writes what was held back.
func (h *halves) release() error {
	h.holding = false
	_, err := h.Conn.Write(h.kept)
	h.kept = nil
	return err
}
