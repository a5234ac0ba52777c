package socket_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// options are those of most tests: nobody is too fast, and a busy machine is no fault.
func options() socket.Options {
	return socket.Options{
		MaxMessage: 64 << 10, FramesPerSecond: 1e6, FrameBurst: 1e6,
		WriteTimeout: testkit.Patience, CloseTimeout: testkit.Patience,
	}
}

// pair is both ends of a connection.
type pair struct {
	conn   *socket.Conn
	client *testkit.Client
}

// upgraded is what a server makes of a handshake.
type upgraded struct {
	conn *socket.Conn
	err  error
}

// kind is what a connection runs on.
type kind string

const (
	onTCP  kind = "TCP"
	onLent kind = "lent TCP" // which is taken back without Hijack
	onTLS  kind = "TLS"
	onPipe kind = "pipe" // where everything waits
	// onSlowTLS lets the records of the client arrive byte by byte.
	onSlowTLS kind = "slow TLS"
)

// kinds are all of them.
func kinds() []kind { return []kind{onTCP, onLent, onTLS, onPipe, onSlowTLS} }

// direct are those whose writes need not wait.
func direct() []kind { return []kind{onTCP, onLent, onTLS} }

// serve starts a server that upgrades.
func serve(tb testing.TB, o socket.Options, on kind) (testkit.DialFunc, <-chan upgraded) {
	tb.Helper()
	results := make(chan upgraded, 1) // one handshake at a time
	return serveWith(tb, on, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := socket.Upgrade(w, r, &o)
		if err == nil {
			err = c.Begin()
		}
		results <- upgraded{c, err}
	})), results
}

// serveWith starts a server.
func serveWith(tb testing.TB, on kind, h http.Handler) testkit.DialFunc {
	tb.Helper()
	server := httptest.NewUnstartedServer(h)
	tb.Cleanup(server.Close)
	server.Config.ConnContext = withAccepted
	dial := testkit.DialTCP(server.Listener.Addr().String())
	switch on {
	case onTLS, onSlowTLS:
		server.Listener = socket.ListenUnderTLS(server.Listener)
		server.StartTLS()
		tcp, config := dial, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
		config.RootCAs.AddCert(server.Certificate())
		return func(ctx context.Context) (net.Conn, error) {
			c, err := tcp(ctx)
			if err != nil {
				return nil, err
			}
			if on == onSlowTLS {
				c = singleBytes{c}
			}
			return tls.Client(c, config), nil
		}
	case onPipe:
		_ = server.Listener.Close()
		l := testkit.Listen()
		server.Listener, dial = l, l.Dial
	case onLent:
		lend(server)
	case onTCP:
	}
	server.Start()
	return dial
}

// lend lets a server have its connections on loan. It returns what counts those taken back.
func lend(server *httptest.Server) *atomic.Int64 {
	var taken atomic.Int64
	server.Listener = socket.Lend(server.Listener)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return socket.WithLent(withAccepted(ctx, c), c, func() { taken.Add(1) })
	}
	return &taken
}

type acceptedKey struct{}

// withAccepted lets a handler find what the server has accepted.
func withAccepted(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, acceptedKey{}, c)
}

// accepted is the connection of a request as the server has it.
func accepted(r *http.Request) net.Conn {
	c, _ := r.Context().Value(acceptedKey{}).(net.Conn)
	return c
}

// singleBytes writes single bytes.
type singleBytes struct{ net.Conn }

// Write implements net.Conn.
func (s singleBytes) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		_, err = s.Conn.Write(p[n : n+1])
		n++
	}
	return n, err
}

// connect returns both ends of a connection that is open.
func connect(tb testing.TB, o socket.Options, on kind, header http.Header) pair {
	tb.Helper()
	dial, results := serve(tb, o, on)
	client := testkit.Connect(tb, dial, testkit.Handshake{Header: header})
	server := <-results
	if server.err != nil {
		tb.Fatal(server.err)
	}
	tb.Cleanup(func() {
		_ = client.Close()
		_ = server.conn.Close()
	})
	return pair{server.conn, client}
}

// next waits for a message.
func next(c *socket.Conn, b socket.Budget) (socket.Message, error) {
	for {
		c.Await()
		for {
			m, err := c.Next(b)
			if errors.Is(err, socket.ErrIdle) {
				break
			}
			return m, err
		}
	}
}

// budget counts what is held; over limit, if that is not 0, it has no room.
type budget struct {
	limit int

	mu   sync.Mutex
	held int
	most int
}

var errNoRoom = errors.New("no room")

func (b *budget) Take(bytes int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit > 0 && b.held+bytes > b.limit {
		return errNoRoom
	}
	b.held += bytes
	b.most = max(b.most, b.held)
	return nil
}

func (b *budget) Give(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= bytes
}

// frames makes data frames of a server, of these sizes.
func frames(sizes ...int) (b []byte) {
	for i, size := range sizes {
		f := testkit.Frame{Opcode: testkit.OpText, Unmasked: true, Payload: make([]byte, size)}
		for j := range f.Payload {
			f.Payload[j] = byte('a' + (i+j)%26)
		}
		b = append(b, f.Bytes()...)
	}
	return b
}

// within bounds a wait of a test.
func within(tb testing.TB, what string, done <-chan struct{}) {
	tb.Helper()
	select {
	case <-done:
	case <-time.After(testkit.Patience):
		tb.Fatalf("%s: still waiting", what)
	}
}
