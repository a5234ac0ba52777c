package socket

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Lend returns a listener for an [http.Server] without TLS and without HTTP/2, whose ConnContext is
// [WithLent]. net/http has its connections on loan: [Upgrade] takes them back without Hijack, after
// which net/http meets a closed connection, ends as with any request, and uses its buffers again.
// After Hijack they would be garbage, 10 KiB for each handshake. l listens for TCP.
func Lend(l net.Listener) net.Listener { return lendingListener{l} }

type lendingListener struct{ net.Listener }

// Accept implements net.Listener.
func (l lendingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		lent := &lent{tcp: tcp}
		lent.changed.L = &lent.mu
		return lent, nil
	}
	return c, err
}

type lentKey struct{}

// WithLent returns a context for the requests of a connection. taken, which may be nil, is called when
// Upgrade has taken the connection back, as ConnState would be for Hijack.
func WithLent(ctx context.Context, c net.Conn, taken func()) context.Context {
	l, ok := c.(*lent)
	if !ok {
		return ctx
	}
	l.onTaken = taken
	return context.WithValue(ctx, lentKey{}, l)
}

// lentBy returns the connection of a request, nil if it is not on loan.
func lentBy(r *http.Request) *lent {
	l, _ := r.Context().Value(lentKey{}).(*lent)
	return l
}

// lent is a TCP connection that net/http has on loan. net/http may close it at any time, also because
// it is older than others. So closing excludes taking back: a [Conn] uses the descriptor, which must
// not become another connection's.
type lent struct {
	tcp     *net.TCPConn
	onTaken func() // may be nil

	mu      sync.Mutex
	changed sync.Cond // reading may have ended
	reading bool
	state   lentState
	closed  bool
	taken   bool
}

// lentState is what net/http has read.
type lentState uint8

const (
	lentNothing lentState = iota
	lentHead              // the head of one request, and nothing after it
	lentMore              // something else
)

// takeBack takes the connection from net/http. ok is false if net/http may have read anything after
// the request, which only Hijack can tell, or has closed the connection. No body may be announced.
func (l *lent) takeBack() (tcp *net.TCPConn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading { // net/http waits for a byte, to see whether the client leaves
		_ = l.tcp.SetReadDeadline(time.Unix(1, 0)) // a dead socket shows at the next use
		for l.reading {
			l.changed.Wait()
		}
	}
	if l.state != lentHead || l.closed {
		return nil, false
	}
	l.taken = true
	if l.onTaken != nil {
		l.onTaken()
	}
	_ = l.tcp.SetDeadline(time.Time{}) // those of net/http
	return l.tcp, true
}

// hijacked takes the connection after Hijack. Nobody reads.
func (l *lent) hijacked() *net.TCPConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = true
	return l.tcp
}

// Read implements net.Conn.
func (l *lent) Read(p []byte) (int, error) {
	if !l.beginRead() {
		return 0, net.ErrClosed
	}
	n, err := l.tcp.Read(p)
	l.endRead(p[:n])
	return n, err
}

func (l *lent) beginRead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = !l.taken
	return l.reading
}

// endRead notes what was read.
func (l *lent) endRead(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = false
	switch {
	case len(p) == 0:
	case l.state == lentNothing && onlyHead(p):
		l.state = lentHead
	default:
		l.state = lentMore
	}
	l.changed.Broadcast()
}

// onlyHead reports whether an HTTP parser that reads the head of a request from b, line by line,
// cannot end before the end of b: no line but the last is empty, or empty without white space.
func onlyHead(b []byte) bool {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return false
		}
		b = b[end+1:]
		switch {
		case len(b) == 1 && b[0] == '\n', len(b) == 2 && b[0] == '\r' && b[1] == '\n':
			return true
		case len(b) == 0 || b[0] <= ' ':
			return false
		}
	}
}

// Close implements net.Conn.
func (l *lent) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return net.ErrClosed
	}
	l.closed = true
	return l.tcp.Close()
}

// onLoan returns the connection as long as net/http has it.
func (l *lent) onLoan() (*net.TCPConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return nil, net.ErrClosed
	}
	return l.tcp, nil
}

// Write implements net.Conn.
func (l *lent) Write(p []byte) (int, error) {
	tcp, err := l.onLoan()
	if err != nil {
		return 0, err
	}
	return tcp.Write(p)
}

// CloseWrite lets net/http tell a client that nothing follows.
func (l *lent) CloseWrite() error {
	tcp, err := l.onLoan()
	if err != nil {
		return err
	}
	return tcp.CloseWrite()
}

// SyscallConn implements syscall.Conn, for server-sent events.
func (l *lent) SyscallConn() (syscall.RawConn, error) {
	tcp, err := l.onLoan()
	if err != nil {
		return nil, err
	}
	return tcp.SyscallConn()
}

// LocalAddr implements net.Conn.
func (l *lent) LocalAddr() net.Addr { return l.tcp.LocalAddr() }

// RemoteAddr implements net.Conn.
func (l *lent) RemoteAddr() net.Addr { return l.tcp.RemoteAddr() }

// SetDeadline implements net.Conn.
func (l *lent) SetDeadline(t time.Time) error { return l.set((*net.TCPConn).SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (l *lent) SetReadDeadline(t time.Time) error { return l.set((*net.TCPConn).SetReadDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (l *lent) SetWriteDeadline(t time.Time) error { return l.set((*net.TCPConn).SetWriteDeadline, t) }

func (l *lent) set(deadline func(*net.TCPConn, time.Time) error, t time.Time) error {
	tcp, err := l.onLoan()
	if err != nil {
		return err
	}
	return deadline(tcp, t)
}
