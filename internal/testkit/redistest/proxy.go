package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server. After Redirect, existing connections stay there, as with
// a load balancer, and only new ones go to the other server.
type Proxy struct {
	Addr string

	mu     sync.Mutex
	target string
	conns  map[net.Conn]struct{} // nil after the test
}

// StartProxy runs a Proxy to a server until the test ends.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: listener.Addr().String(), target: target, conns: make(map[net.Conn]struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(client) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close() // closing twice is fine
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close() // it may have ended
		}
		p.conns = nil
		p.mu.Unlock()
		running.Wait()
	})
	return p
}

// Redirect leads new connections to another server. Open ones stay.
func (p *Proxy) Redirect(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// serve passes one connection on until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // nothing left to lose
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target) //nolint:noctx // on this machine
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // nothing left to lose
	if !p.keep(client, server) {
		return
	}
	var copying sync.WaitGroup
	for to, from := range map[net.Conn]net.Conn{client: server, server: client} {
		copying.Go(func() {
			_, _ = io.Copy(to, from) // how it ends does not matter
			_ = client.Close()
			_ = server.Close()
		})
	}
	copying.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// keep makes the end of the test close the connections. It reports false if the test has ended.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}
