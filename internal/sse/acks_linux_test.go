package sse_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDeadClientIsNoticed: the kernel drops a client that acknowledges nothing after AckTimeout,
// also with TLS.
func TestDeadClientIsNoticed(t *testing.T) {
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan net.Conn, 1)
			served := make(chan error, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				stream, err := newCarrier().Upgrade(w, r, &budget{room: 1 << 20})
				if err == nil {
					defer func() { _ = stream.Close() }()
				}
				served <- err
			}))
			server.Config.ConnState = func(c net.Conn, state http.ConnState) {
				if state == http.StateHijacked {
					if tls, ok := c.(interface{ NetConn() net.Conn }); ok {
						c = tls.NetConn()
					}
					conns <- duplicate(t, c)
				}
			}
			if secure {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			response, err := server.Client().Get(server.URL + "/sse/events?group=all")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry: ") {
				t.Errorf("got %q, %v, want how long to wait", line, err)
			}
			if err := <-served; err != nil {
				t.Fatal(err)
			}
			c := <-conns
			defer func() { _ = c.Close() }()
			if got := ackTimeout(t, c); got != 35000 {
				t.Errorf("TCP_USER_TIMEOUT: got %d ms, want 35000", got)
			}
		})
	}
}

// duplicate returns a connection that stays open when the other is closed.
func duplicate(tb testing.TB, c net.Conn) net.Conn {
	tb.Helper()
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		tb.Fatalf("got a %T", c)
	}
	f, err := tcp.File()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	again, err := net.FileConn(f)
	if err != nil {
		tb.Fatal(err)
	}
	return again
}

func ackTimeout(tb testing.TB, c net.Conn) (ms int) {
	tb.Helper()
	socket, ok := c.(syscall.Conn)
	if !ok {
		tb.Fatalf("got a %T", c)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	var optionErr error
	if err := raw.Control(func(fd uintptr) {
		ms, optionErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || optionErr != nil {
		tb.Fatal(err, optionErr)
	}
	return ms
}
