package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// BenchmarkHandshake compares a whole admission — limits, origin, signed session, membership,
// consumer, welcome — with a bare upgrade by the same library. Client and layout are the same in
// both, so the difference is what admission costs; cpu-ns/op counts both sides.
func BenchmarkHandshake(b *testing.B) {
	b.Run("gateway", func(b *testing.B) {
		n := startNode(b, setup{options: gateway.Options{CloseTimeout: testkit.Patience}})
		request := n.handshake("/ws/events", "ada", "acme", v1())
		benchmarkHandshake(b, n.addr(), request.Bytes())
	})
	b.Run("bare", func(b *testing.B) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{consumer.ProtocolV1}, InsecureSkipVerify: true})
			if err != nil {
				b.Error(err)
				return
			}
			_ = c.Write(r.Context(), websocket.MessageText, []byte(`{"type":"welcome"}`))
			_, _, _ = c.Read(r.Context()) // until the client's close frame, which it answers
			_ = c.CloseNow()
		}))
		b.Cleanup(server.Close)
		n := startNode(b, setup{}) // for a request that is the same
		request := n.handshake("/ws/events", "ada", "acme", v1())
		benchmarkHandshake(b, server.Listener.Addr().String(), request.Bytes())
	})
}

// benchmarkHandshake connects, reads the answer and the first frame, closes properly and waits for
// the server's end.
func benchmarkHandshake(b *testing.B, addr string, request []byte) {
	b.Helper()
	goodbye := testkit.CloseFrame(1000, "").Bytes()
	br := bufio.NewReaderSize(nil, 4096)
	dialer := net.Dialer{Timeout: testkit.Patience}
	b.ReportAllocs()
	cpu := processTime(b)
	for b.Loop() {
		c, err := dialer.DialContext(b.Context(), "tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(testkit.Patience)) // a dead socket shows at the read
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		br.Reset(c)
		if err := handshaken(br); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write(goodbye); err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, br); err != nil { // the close frame, and the end
			b.Fatal(err)
		}
		_ = c.Close()
	}
	b.ReportMetric(float64(processTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// handshaken reads an answer of 101 and one short frame without allocating.
func handshaken(br *bufio.Reader) error {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("answer: %s", line)
	}
	for len(line) > 2 {
		if line, err = br.ReadSlice('\n'); err != nil {
			return err
		}
	}
	header, err := br.Peek(4)
	if err != nil {
		return err
	}
	size := 2 + int(header[1])
	if header[1] == 126 {
		size = 4 + int(header[2])<<8 + int(header[3])
	}
	_, err = br.Discard(size)
	return err
}

// processTime returns the processor time that this process has used.
func processTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
