package outage

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Plug is a TCP proxy in front of a server on this machine. While it is pulled, it ends every
// connection and accepts none. Its methods are safe for concurrent use.
type Plug struct {
	listener net.Listener // fixed after construction
	target   string       // fixed after construction
	serving  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	pulled bool
	closed bool
}

// dialTimeout bounds a connection to a server on this machine.
const dialTimeout = time.Second

// Open listens on a port of 127.0.0.1 that the system chooses, and passes connections on to the
// target. The caller closes it.
func Open(target string) (*Plug, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return nil, fmt.Errorf("open plug: %w", err)
	}
	p := &Plug{listener: listener, target: target, conns: make(map[net.Conn]struct{})}
	p.serving.Go(p.accept)
	return p, nil
}

// Addr returns host and port.
func (p *Plug) Addr() string { return p.listener.Addr().String() }

// Pull ends all connections, and refuses new ones until Restore.
func (p *Plug) Pull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = true
	p.cut()
}

// Restore accepts connections again.
func (p *Plug) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = false
}

// Close ends the proxy and its connections and waits for them.
func (p *Plug) Close() {
	p.mu.Lock()
	p.closed = true
	p.cut()
	p.mu.Unlock()
	_ = p.listener.Close() // nothing left to lose
	p.serving.Wait()
}

// cut ends all connections. The mutex is held.
func (p *Plug) cut() {
	for c := range p.conns {
		_ = c.Close() // it may have ended
	}
}

// accept serves until Close.
func (p *Plug) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.serve(client) })
	}
}

// serve passes one connection on until either side ends it.
func (p *Plug) serve(client net.Conn) {
	if !p.keep(client) {
		reset(client)
		return
	}
	defer p.drop(client)
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	if !p.keep(server) {
		reset(server)
		return
	}
	defer p.drop(server)
	var copying sync.WaitGroup
	for to, from := range map[net.Conn]net.Conn{client: server, server: client} {
		copying.Go(func() {
			_, _ = io.Copy(to, from) // how it ends does not matter
			_ = client.Close()
			_ = server.Close()
		})
	}
	copying.Wait()
}

// keep makes Pull and Close end the connection. It reports false if it must end at once.
func (p *Plug) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pulled || p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

// drop closes a connection and forgets it.
func (p *Plug) drop(c net.Conn) {
	_ = c.Close() // it may have ended
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// reset refuses a connection, so that the other side sees a reset and not an end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else it is closed in the usual way
	}
	_ = c.Close()
}
