package socket

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// ListenUnderTLS returns a listener for [tls.NewListener] or [http.Server.ServeTLS]. Connections of
// crypto/tls on top of it need not wait after [Upgrade], as those on a plain TCP socket. l listens
// for TCP.
func ListenUnderTLS(l net.Listener) net.Listener { return carrierListener{l} }

type carrierListener struct{ net.Listener }

// Accept implements net.Listener.
func (l carrierListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if raw, fd := descriptor(c); raw != nil {
		return &carrier{Conn: c, raw: raw, fd: fd}, nil
	}
	return c, nil
}

// carrier carries the records of TLS between crypto/tls and a TCP socket. As long as net/http has
// it, it waits as any connection does. After [carrier.take] it only moves bytes between memory and
// the descriptor: Read fails with errWouldBlock while nothing has come, and Write keeps what
// the socket does not take. crypto/tls goes on after an error that calls itself temporary, in the
// middle of a record, too. So no goroutine has to wait deep inside it.
type carrier struct {
	net.Conn // of the TCP socket

	raw syscall.RawConn
	fd  int

	detached bool // reading does not wait; owned by the goroutine that reads

	ends   sync.Mutex // held while the socket closes, or changes hands
	taken  bool       // a Conn has it, and uses the descriptor
	closed bool

	mu      sync.Mutex
	keeping bool   // writing does not wait
	sealed  []byte // records that the socket has not taken yet
}

// maxSealed bounds what waits below crypto/tls: the records of one piece. crypto/tls adds answers of
// its own, such as updates of keys, which only a peer that does not read lets wait.
const maxSealed = 2 * pieceSize

var (
	errWouldBlock error = wouldBlockError{}
	errBacklog          = errors.New("socket: peer does not read what TLS answers")
)

// wouldBlockError is temporary to crypto/tls, which otherwise would not go on after it.
type wouldBlockError struct{}

// Error implements error.
func (wouldBlockError) Error() string { return "socket: nothing to read yet" }

// Timeout implements net.Error.
func (wouldBlockError) Timeout() bool { return false }

// Temporary implements net.Error.
func (wouldBlockError) Temporary() bool { return true }

// carrierOf returns what carries a connection of crypto/tls, or nil.
func carrierOf(c net.Conn) *carrier {
	secure, ok := c.(*tls.Conn)
	if !ok {
		return nil
	}
	below, _ := secure.NetConn().(*carrier)
	return below
}

// take hands the socket to a Conn, and ends waiting. ok is false if it has been closed: then the
// descriptor may be another socket's. The caller reads, and nobody writes.
func (c *carrier) take() (ok bool) {
	c.ends.Lock()
	defer c.ends.Unlock()
	if c.closed {
		return false
	}
	c.taken, c.detached, c.keeping = true, true, true
	return true
}

// Close implements net.Conn, for the Conn or, as long as there is none, for the server.
func (c *carrier) Close() error {
	c.ends.Lock()
	defer c.ends.Unlock()
	c.closed = true
	return c.Conn.Close()
}

// giveWay closes the socket if no Conn has it.
func (c *carrier) giveWay() {
	c.ends.Lock()
	defer c.ends.Unlock()
	if !c.taken {
		c.closed = true
		_ = c.Conn.Close() // an error changes nothing: it is closed
	}
}

// attach lets reads wait again. The caller reads.
func (c *carrier) attach() { c.detached = false }

// Read implements net.Conn.
func (c *carrier) Read(p []byte) (int, error) {
	if !c.detached {
		return c.Conn.Read(p)
	}
	n, again, err := receiveNow(c.fd, p)
	switch {
	case again:
		return 0, errWouldBlock
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (c *carrier) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keeping {
		return c.Conn.Write(p)
	}
	sent := 0
	if len(c.sealed) == 0 {
		var err error
		if sent, err = sendNow(c.fd, p); err != nil {
			return sent, err
		}
	}
	if sent < len(p) {
		if len(c.sealed)+len(p)-sent > maxSealed {
			return sent, errBacklog
		}
		c.sealed = append(c.sealed, p[sent:]...)
	}
	return len(p), nil
}

// clear reports whether the socket has taken everything, after one more try.
func (c *carrier) clear() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent, err := sendNow(c.fd, c.sealed)
	c.took(sent)
	return len(c.sealed) == 0, err
}

// empty reports whether the socket has taken everything.
func (c *carrier) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sealed) == 0
}

// flush waits until the socket has taken everything.
func (c *carrier) flush() error {
	for {
		c.mu.Lock()
		waiting := c.sealed
		c.mu.Unlock()
		if len(waiting) == 0 {
			return nil
		}
		sent, err := c.Conn.Write(waiting) // only the caller sends: others append
		c.mu.Lock()
		c.took(sent)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// took forgets what the socket has taken. Its caller holds mu.
func (c *carrier) took(n int) {
	if c.sealed = c.sealed[n:]; len(c.sealed) == 0 {
		c.sealed = nil
	}
}
