package gateway_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// atBorder runs a test of a public listener with so many sockets, with a fake clock and a network
// in memory.
func atBorder(t *testing.T, sockets int, test func(n *node, pipe *testkit.Listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, setup{pipe: testkit.Listen(), now: time.Now, options: gateway.Options{CloseTimeout: time.Second}})
		pipe, server := testkit.Listen(), n.gateway.HTTPServer(n.gateway, sockets)
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(pipe) }()
		test(n, pipe)
		n.stop()
		_ = server.Close()
		_ = pipe.Close()
		<-done
		synctest.Wait()
	})
}

func dialPipe(tb testing.TB, pipe *testkit.Listener) net.Conn {
	tb.Helper()
	c, err := pipe.Dial(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestStrangerHasASocketForOneHandshake: whatever a stranger does with a socket, it is gone after
// the time that a handshake may take, and asking again does not make that longer.
func TestStrangerHasASocketForOneHandshake(t *testing.T) {
	const request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, test := range map[string]struct {
		send  string
		again string        // from time to time
		every time.Duration // 0: once
		deaf  bool          // reads nothing, and the network has no buffers
	}{
		"silent":                      {},
		"header byte by byte":         {send: "GET /x HTTP/1.1\r\nHost: a\r\nX: ", again: "x", every: time.Second},
		"one request after the other": {send: request, again: request, every: time.Second},
		"body that never comes":       {send: "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"},
		"requests in a row, deaf":     {send: strings.Repeat(request, 50), deaf: true},
	} {
		t.Run(name, func(t *testing.T) {
			atBorder(t, 0, func(n *node, pipe *testkit.Listener) {
				c := dialPipe(n.tb, pipe)
				began := time.Now()
				ended := make(chan struct{})
				var writing sync.WaitGroup
				writing.Go(func() {
					_, err := io.WriteString(c, test.send)
					for err == nil && test.every > 0 {
						time.Sleep(test.every)
						_, err = io.WriteString(c, test.again)
					}
				})
				go func() {
					defer close(ended)
					for !test.deaf {
						if _, err := c.Read(make([]byte, 512)); err != nil {
							return
						}
					}
					for n.metric("orgcast_handshake_sockets") > 0 {
						time.Sleep(time.Second)
					}
				}()
				<-ended
				if got := time.Since(began); got > 45*time.Second {
					n.tb.Errorf("the socket was open for %v", got)
				}
				_ = c.Close()
				writing.Wait()
				synctest.Wait()
				if got := n.metric("orgcast_handshake_sockets"); got != 0 {
					n.tb.Errorf("orgcast_handshake_sockets: got %v, want 0", got)
				}
			})
		})
	}
}

// TestIdleStrangersGiveWay: a few strangers who open all sockets that there are and do nothing lock
// nobody out, and a rush of handshakes does not push out those that came a moment before.
func TestIdleStrangersGiveWay(t *testing.T) {
	atBorder(t, 4, func(n *node, pipe *testkit.Listener) {
		t := n.tb
		var idle []net.Conn
		for range 4 {
			idle = append(idle, dialPipe(t, pipe))
			synctest.Wait()
		}
		late := dialPipe(t, pipe)
		if _, err := late.Read(make([]byte, 1)); err == nil {
			t.Error("a fifth socket at once: got bytes, want its end")
		}
		if got := n.metric("orgcast_sockets_closed_total", "reason=full"); got != 1 {
			t.Errorf("full: got %v, want 1", got)
		}
		time.Sleep(2 * time.Second)
		for range 3 {
			c := testkit.Connect(t, pipe.Dial, n.handshake("/ws/events", "ada", "acme", nil))
			defer c.Close()
			synctest.Wait()
		}
		if got := n.metric("orgcast_sockets_closed_total", "reason=gave_way"); got != 3 {
			t.Errorf("gave way: got %v, want 3", got)
		}
		if got := n.gateway.Connections(); got != 3 {
			t.Errorf("connections: got %d, want 3", got)
		}
		for _, c := range idle {
			_ = c.Close()
		}
	})
}

// TestTLSErrorsAreSampled: a client that opens sockets and speaks no TLS is counted each time and logged
// now and then.
func TestTLSErrorsAreSampled(t *testing.T) {
	const knocks = 200
	out := new(testkit.SyncBuffer)
	n := startNode(t, setup{log: logTo(out)})
	server := httptest.NewUnstartedServer(nil)
	server.Config = n.gateway.HTTPServer(http.NotFoundHandler(), 0)
	server.StartTLS()
	defer server.Close()
	began := time.Now()
	for range knocks {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "no TLS\r\n")
		_ = c.Close()
	}
	n.expectMetric(knocks, "orgcast_http_errors_total", "reason=tls")
	most := 11 + int(time.Since(began)/time.Second)
	if got := strings.Count(out.String(), "TLS handshake error"); got == 0 || got > most {
		t.Errorf("got %d lines, want 1 to %d", got, most)
	}
}
