package testkit

import (
	"context"
	"net"
	"sync"
)

// Listener is an in-memory network. Its connections are those of [net.Pipe]: a write waits until
// the other side reads. In a synctest bubble, everything runs on the bubble's clock.
type Listener struct {
	conns chan net.Conn // unbuffered: Dial returns when Accept has it; never closed
	done  chan struct{} // closed by Close
	once  sync.Once
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a Listener.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial connects. It is a [DialFunc].
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// Addr implements net.Listener.
func (*Listener) Addr() net.Addr { return pipeAddr{} }
