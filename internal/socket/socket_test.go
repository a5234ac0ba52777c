package socket_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

func text(s string) testkit.Frame {
	return testkit.Frame{Opcode: testkit.OpText, Payload: []byte(s)}
}

// TestNext: messages come whole, a connection that breaks a rule tells which, and a budget has
// everything back that it was charged but for the messages that were returned.
func TestNext(t *testing.T) {
	long := strings.Repeat("x", 3000)
	more := text("a")
	more.More = true
	for name, test := range map[string]struct {
		send []testkit.Frame
		want []string
		end  error
	}{
		"messages":             {send: []testkit.Frame{text("a"), text(""), text(long)}, want: []string{"a", "", long}, end: socket.ErrGone},
		"fragments":            {send: []testkit.Frame{more, {Opcode: testkit.OpContinuation, Payload: []byte("b")}}, want: []string{"ab"}, end: socket.ErrGone},
		"pongs are no message": {send: []testkit.Frame{{Opcode: testkit.OpPong}, text("a"), {Opcode: testkit.OpPong}}, want: []string{"a"}, end: socket.ErrGone},
		"close":                {send: []testkit.Frame{text("a"), testkit.CloseFrame(4000, "bye")}, want: []string{"a"}, end: socket.ClosedError{Code: 4000}},
		"end within a message": {send: []testkit.Frame{text("a"), more}, want: []string{"a"}, end: socket.ErrGone},
		"reason not UTF-8":     {send: []testkit.Frame{testkit.CloseFrame(1000, "\xff")}, end: socket.ErrNotUTF8},
		"text not UTF-8":       {send: []testkit.Frame{text("a\xff")}, end: socket.ErrNotUTF8},
		"too big":              {send: []testkit.Frame{text(strings.Repeat("x", 4097))}, end: socket.ErrMessageTooBig},
		"too many":             {send: []testkit.Frame{text("a"), text("b"), text("c"), text("d")}, want: []string{"a", "b", "c"}, end: socket.ErrTooManyFrames},
	} {
		t.Run(name, func(t *testing.T) {
			for _, on := range kinds() {
				t.Run(string(on), func(t *testing.T) {
					o := options()
					o.MaxMessage, o.FramesPerSecond, o.FrameBurst = 4096, 1e-9, 3
					p := connect(t, o, on, nil)
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						for _, f := range test.send {
							if p.client.Send(f) != nil {
								return
							}
						}
						_ = p.client.Close()
					}()
					var b budget
					var got []string
					for {
						m, err := next(p.conn, &b)
						if err == nil {
							got = append(got, string(m.Data))
							b.Give(socket.Held(m.Data))
							continue
						}
						if !errors.Is(err, test.end) {
							t.Errorf("end: got %v, want %v", err, test.end)
						}
						break
					}
					if strings.Join(got, "|") != strings.Join(test.want, "|") {
						t.Errorf("messages: got %q, want %q", got, test.want)
					}
					if b.held != 0 {
						t.Errorf("the budget still counts %d bytes", b.held)
					}
					_ = p.conn.Close()
					within(t, "the client", sent)
				})
			}
		})
	}
}

// TestMessagesHoweverTheyArrive: messages are the same whether one record of TLS has many of them,
// a message has many records, or records and frames arrive byte by byte.
func TestMessagesHoweverTheyArrive(t *testing.T) {
	var all []byte
	var want []string
	for i := range 40 {
		f := text(strings.Repeat(strconv.Itoa(i%10), i*i%700))
		all = append(all, f.Bytes()...)
		want = append(want, string(f.Payload))
		if i%5 == 0 {
			all = append(all, testkit.Frame{Opcode: testkit.OpPong}.Bytes()...)
		}
	}
	for _, on := range kinds() {
		for _, size := range []int{len(all), 100, 1} {
			t.Run(fmt.Sprint(on, ", ", size, " bytes at once"), func(t *testing.T) {
				p := connect(t, options(), on, nil)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for rest := all; len(rest) > 0; rest = rest[min(size, len(rest)):] {
						if _, err := p.client.Write(rest[:min(size, len(rest))]); err != nil {
							return
						}
					}
				}()
				var b budget
				for i, w := range want {
					m, err := next(p.conn, &b)
					if err != nil || string(m.Data) != w {
						t.Fatalf("message %d: got %q, %v, want %q", i, m.Data, err, w)
					}
				}
				within(t, "the client", sent)
				_ = p.client.Close()
				if _, err := next(p.conn, &b); !errors.Is(err, socket.ErrGone) {
					t.Errorf("end: got %v, want %v", err, socket.ErrGone)
				}
			})
		}
	}
}

// TestBudgetRefuses: an error of the budget ends reading as it is, and nothing stays charged.
func TestBudgetRefuses(t *testing.T) {
	for _, on := range kinds() {
		t.Run(string(on), func(t *testing.T) {
			p := connect(t, options(), on, nil)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_ = p.client.Send(text(strings.Repeat("x", 20000)))
			}()
			b := budget{limit: 10000}
			if _, err := next(p.conn, &b); !errors.Is(err, errNoRoom) {
				t.Errorf("got %v, want %v", err, errNoRoom)
			}
			if b.held != 0 {
				t.Errorf("the budget still counts %d bytes", b.held)
			}
			_ = p.conn.Close()
			within(t, "the client", sent)
		})
	}
}

// more than the kernel's buffers of both ends hold.
const moreThanFits = 32 << 20

// manyFrames are frames of all kinds of headers, more than fits.
func manyFrames() (b []byte, count int) {
	sizes := []int{1, 125, 126, 40000, 70000, 3}
	one := frames(sizes...)
	times := moreThanFits/len(one) + 1
	return bytes.Repeat(one, times), times * len(sizes)
}

// TestNothingAfterTheCloseFrame: it is the last, and there is only one.
func TestNothingAfterTheCloseFrame(t *testing.T) {
	for _, on := range direct() {
		t.Run(string(on), func(t *testing.T) { nothingAfterTheCloseFrame(t, on) })
	}
}

func nothingAfterTheCloseFrame(t *testing.T, on kind) {
	t.Helper()
	p := connect(t, options(), on, nil)
	if err := p.conn.WriteClose(socket.CloseFrame(4000, "first")); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.WriteClose(socket.CloseFrame(4001, "second")); err != nil {
		t.Error(err)
	}
	if err := p.conn.Write(frames(1)); !errors.Is(err, socket.ErrClosing) {
		t.Errorf("Write: got %v, want %v", err, socket.ErrClosing)
	}
	if _, err := p.conn.TryWrite(frames(1), 0); !errors.Is(err, socket.ErrClosing) {
		t.Errorf("TryWrite: got %v, want %v", err, socket.ErrClosing)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.conn.Drain()
		_ = p.conn.Close()
	}()
	if got, reason := p.client.ExpectClose(t, 4000); len(got) != 0 || reason != "first" {
		t.Errorf("got %q and reason %q, want the first close frame alone", got, reason)
	}
	within(t, "Drain", done)
}

// TestUpgrade: what is agreed on, and what is refused.
func TestUpgrade(t *testing.T) {
	for _, on := range kinds() {
		t.Run(string(on), func(t *testing.T) { upgrade(t, on) })
	}
}

func upgrade(t *testing.T, on kind) {
	t.Helper()
	o := options()
	o.Protocol, o.Compress, o.OriginPatterns = "orgcast.v1", true, []string{"https://app.example.com"}
	dial, results := serve(t, o, on)
	for name, test := range map[string]struct {
		header     http.Header
		status     int
		protocol   string
		compressed bool
	}{
		"plain":                   {status: 101},
		"protocol, spelled oddly": {header: http.Header{"Sec-Websocket-Protocol": {"other, Orgcast.V1"}}, status: 101, protocol: "Orgcast.V1"},
		"unknown protocol":        {header: http.Header{"Sec-Websocket-Protocol": {"other"}}, status: 101},
		"compression":             {header: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}, status: 101, compressed: true},
		"an allowed page":         {header: http.Header{"Origin": {"https://app.example.com"}}, status: 101},
		"another page":            {header: http.Header{"Origin": {"https://evil.example"}}, status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			client, answer := testkit.Try(t, dial, testkit.Handshake{Header: test.header})
			server := <-results
			if answer.Status != test.status || (server.err == nil) != (test.status == 101) {
				t.Fatalf("got status %d, error %v, want %d", answer.Status, server.err, test.status)
			}
			if server.err != nil {
				return
			}
			defer func() { _ = client.Close(); _ = server.conn.Close() }()
			if got := answer.Header.Get("Sec-Websocket-Protocol"); got != test.protocol {
				t.Errorf("protocol: got %q, want %q", got, test.protocol)
			}
			if got := server.conn.Compressed(); got != test.compressed {
				t.Errorf("compressed: got %v, want %v", got, test.compressed)
			}
		})
	}
}

// TestCloseEndsAWaitingWrite: Close waits for a write, and ends it first.
func TestCloseEndsAWaitingWrite(t *testing.T) {
	for _, on := range kinds() {
		t.Run(string(on), func(t *testing.T) {
			p := connect(t, options(), on, nil)
			written := make(chan error, 1)
			go func() {
				for {
					if err := p.conn.Write(frames(1 << 20)); err != nil {
						written <- err
						return
					}
				}
			}()
			if err := p.conn.Close(); err != nil {
				t.Error(err)
			}
			if err := <-written; !errors.Is(err, socket.ErrClosing) && !errors.Is(err, net.ErrClosed) && !isTimeout(err) {
				t.Errorf("the write: got %v", err)
			}
		})
	}
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

// TestBrokenRecords: what is no record of TLS, or only the beginning of one, ends the connection,
// and nothing of it becomes a message.
func TestBrokenRecords(t *testing.T) {
	const data, alert = 23, 21
	record := func(kind byte, length int, content ...byte) []byte {
		return append([]byte{kind, 3, 3, byte(length >> 8), byte(length)}, content...)
	}
	for name, sent := range map[string][]byte{
		"no record":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"not encrypted":         record(data, 9, text("abc").Bytes()...),
		"of unknown kind":       record(99, 1, 0),
		"longer than allowed":   record(data, 1<<15),
		"an alert in the clear": record(alert, 2, 2, 40),
		"the beginning of one":  record(data, 1000, 1, 2, 3),
		"less than its head":    {data, 3},
		"nothing":               {},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, options(), onTLS, nil)
			secure, ok := p.client.Conn.(*tls.Conn)
			if !ok {
				t.Fatalf("got a %T, want TLS", p.client.Conn)
			}
			if err := p.client.Send(text("first")); err != nil {
				t.Fatal(err)
			}
			if _, err := secure.NetConn().Write(sent); err != nil {
				t.Fatal(err)
			}
			_ = secure.NetConn().Close()
			var b budget
			m, err := next(p.conn, &b)
			if err != nil || string(m.Data) != "first" {
				t.Fatalf("before it: got %q, %v", m.Data, err)
			}
			if m, err := next(p.conn, &b); !errors.Is(err, socket.ErrGone) {
				t.Errorf("got %q, %v, want %v", m.Data, err, socket.ErrGone)
			}
		})
	}
}
