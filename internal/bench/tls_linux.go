package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// secure is the TLS of one connection, and the net.Conn below crypto/tls. A handshake cannot be
// interrupted, so a goroutine waits in it for what the loop reads. After it, only the loop calls
// crypto/tls, and nothing waits.
type secure struct {
	net.Conn // nil; crypto/tls calls only what secure implements

	tls    *tls.Conn
	loop   *loop
	client *client
	// generation tells whether the client still has this socket.
	generation int32

	mu     sync.Mutex
	come   sync.Cond // in, ended or open has changed
	in     []byte    // bytes that crypto/tls has not read yet
	ended  bool
	opened bool
}

// errNothing is returned instead of waiting. It is temporary: crypto/tls goes on after it.
var errNothing net.Error = nothingError{}

type nothingError struct{}

// Error implements error.
func (nothingError) Error() string { return "nothing to read yet" }

// Timeout implements net.Error.
func (nothingError) Timeout() bool { return false }

// Temporary implements net.Error.
func (nothingError) Temporary() bool { return true }

// Read implements net.Conn.
func (s *secure) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.in) == 0 && !s.opened {
		if s.ended {
			return 0, io.EOF
		}
		s.come.Wait()
	}
	if len(s.in) > 0 {
		n := copy(p, s.in)
		if s.in = s.in[n:]; len(s.in) == 0 {
			s.in = nil
		}
		return n, nil
	}
	n, err := readSocket(s.client.fd, p)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return 0, errNothing
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

// Write implements net.Conn. The handshake's goroutine leaves sending to the loop.
func (s *secure) Write(p []byte) (int, error) {
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	if opened {
		s.loop.sendBytes(s.client, p)
		return len(p), nil
	}
	b := slices.Clone(p)
	s.loop.do(func() {
		if s.current() {
			s.loop.sendBytes(s.client, b)
		}
	})
	return len(p), nil
}

// SetWriteDeadline implements net.Conn: no write waits.
func (*secure) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.Conn. The loop closes the socket.
func (s *secure) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.come.Signal()
	return nil
}

// current reports whether the client has no other socket by now. The loop calls it.
func (s *secure) current() bool {
	return s.client.generation == s.generation && s.client.state != closed
}

// shakeHands begins TLS on a socket that has just connected.
func (l *loop) shakeHands(c *client) {
	s := &secure{loop: l, client: c, generation: c.generation}
	s.come.L = &s.mu
	s.tls = tls.Client(s, l.run.tlsConfig(c))
	c.secure, c.state = s, securing
	l.flush(c, true) // nothing; from now on epoll watches for bytes to read
	l.run.serving.Go(func() {
		err := s.tls.HandshakeContext(context.Background()) // it ends with the socket
		l.do(func() { l.shookHands(s, err) })
	})
}

// shookHands continues with the request.
func (l *loop) shookHands(s *secure, err error) {
	c := s.client
	switch {
	case !s.current():
		return
	case err != nil:
		l.ended(c, fmt.Errorf("TLS: %w", err))
		return
	}
	s.mu.Lock()
	s.opened = true
	s.mu.Unlock()
	c.state = upgrading
	l.send(c, c.request)
	if c.state != closed {
		l.read(c) // what came with the end of the handshake
	}
}

// feed passes bytes to a handshake.
func (l *loop) feed(s *secure) {
	n, err := readSocket(s.client.fd, l.buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = append(s.in, l.buf[:max(n, 0)]...)
	s.ended = err != nil || n == 0
	s.come.Signal()
}

// tlsConfig returns the configuration of a connection. Each client keeps its own sessions, as
// browsers do.
func (r *run) tlsConfig(c *client) *tls.Config {
	switch {
	case !r.opts.Resume || c.sessions != nil:
	case r.opts.sessions != nil:
		c.sessions = r.opts.sessions[c.index]
	default:
		c.sessions = tls.NewLRUClientSessionCache(1)
	}
	return &tls.Config{
		ServerName: c.server.url.Hostname(), MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: r.bare || r.opts.Insecure, //nolint:gosec // asked for
		ClientSessionCache: c.sessions, DynamicRecordSizingDisabled: true,
	}
}

// selfSigned returns a configuration with a certificate for this run alone.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, nil
}
