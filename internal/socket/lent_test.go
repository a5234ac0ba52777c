package socket_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// loan is a server that has its connections on loan.
type loan struct {
	*httptest.Server

	taken *atomic.Int64 // connections that were taken back
}

// lending starts a server. before runs before the upgrade, and the connections are in upgraded.
func lending(t *testing.T, before func(*http.Request)) (l loan, results <-chan upgraded) {
	t.Helper()
	conns := make(chan upgraded, 1) // one handshake at a time
	o := options()
	l.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before(r)
		c, err := socket.Upgrade(w, r, &o)
		if err == nil {
			err = c.Begin()
		}
		conns <- upgraded{c, err}
	}))
	l.taken = lend(l.Server)
	l.Start()
	t.Cleanup(l.Close)
	return l, conns
}

func (l loan) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := testkit.DialTCP(l.Listener.Addr().String())(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	return c
}

// TestTakenBack: a connection is taken back from net/http if all that has come is the head of its
// request. Whatever comes too early is refused as ever.
func TestTakenBack(t *testing.T) {
	head := testkit.Handshake{}.Bytes()
	message := testkit.Frame{Opcode: testkit.OpText, Payload: []byte("early")}.Bytes()
	for name, test := range map[string]struct {
		send  []byte
		later []byte // sent when the request is being handled
		taken int64
		ok    bool
	}{
		"a head":                    {send: head, taken: 1, ok: true},
		"line ends without returns": {send: bytes.ReplaceAll(head, []byte("\r"), nil), taken: 1, ok: true},
		"a head of several packets": {send: testkit.Handshake{Header: http.Header{"X-Long": {strings.Repeat("x", 8<<10)}}}.Bytes(), ok: true},
		"a folded line":             {send: bytes.Replace(head, []byte("\r\n\r\n"), []byte("\r\nX-Folded: a\r\n b\r\n\r\n"), 1), ok: true},
		"data in the same packet":   {send: append(bytes.Clone(head), message...)},
		"a second head in it":       {send: append(bytes.Clone(head), head...)},
		"data a moment later":       {send: head, later: message},
	} {
		t.Run(name, func(t *testing.T) {
			entered, goOn := make(chan *http.Request, 1), make(chan struct{}) // one request
			l, results := lending(t, func(r *http.Request) { entered <- r; <-goOn })
			c := l.dial(t)
			if _, err := c.Write(test.send); err != nil {
				t.Fatal(err)
			}
			r := <-entered
			if test.later != nil {
				if _, err := c.Write(test.later); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "net/http has read it", func() bool { return socket.ReadMore(r) })
			}
			close(goOn)
			got := <-results
			if (got.err == nil) != test.ok {
				t.Errorf("got %v, want an upgrade: %t", got.err, test.ok)
			}
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || (answer.StatusCode == http.StatusSwitchingProtocols) != test.ok {
				t.Errorf("got %v, %v, want an upgrade: %t", answer, err, test.ok)
			}
			if n := l.taken.Load(); n != test.taken {
				t.Errorf("taken back: got %d, want %d", n, test.taken)
			}
			if got.err == nil {
				_ = got.conn.Close()
			}
		})
	}
}

// TestNetHTTPLetsGo: after the upgrade, nothing that net/http does meets the connection.
func TestNetHTTPLetsGo(t *testing.T) {
	l, results := lending(t, func(*http.Request) {})
	c := l.dial(t)
	if _, err := c.Write(testkit.Handshake{}.Bytes()); err != nil {
		t.Fatal(err)
	}
	got := <-results
	if got.err != nil {
		t.Fatal(got.err)
	}
	if n := l.taken.Load(); n != 1 {
		t.Errorf("taken back: got %d, want 1", n)
	}
	_ = l.Config.Close() // closes all connections that it has
	l.Close()            // waits until it has none
	if err := got.conn.Write(frames(3)); err != nil {
		t.Errorf("after the end of the server: %v", err)
	}
	_ = got.conn.Close()
	r := bufio.NewReader(c)
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || !bytes.Equal(rest, frames(3)) {
		t.Errorf("after the answer: got %q, %v, want one frame", rest, err)
	}
}

// FuzzOnlyHead: where a head seems to be all that has come, net/http's parser agrees.
func FuzzOnlyHead(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET",
		"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\nX: b\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\t\r\nX: b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n\r\n", "\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !socket.OnlyHead(b) {
			return
		}
		r := bufio.NewReaderSize(bytes.NewReader(b), len(b)+1)
		if _, err := http.ReadRequest(r); err == nil && r.Buffered() > 0 {
			t.Errorf("%d bytes follow the head of %q", r.Buffered(), b)
		}
	})
}
