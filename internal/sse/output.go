package sse

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// strayBytes is how much a client may send after its request. A browser or a proxy sends nothing,
// or a line end that does not belong there.
const strayBytes = 1 << 10

// open sends the head of the response on a connection that belongs to the stream from now on. The
// end of the connection is the end of the response, as HTTP/1.1 allows (RFC 9112, section 6.3). So
// a stream costs no goroutine and no buffers of net/http. If open fails, it has answered or closed
// the connection.
func open(w http.ResponseWriter, o *Options) (net.Conn, error) {
	begin(w.Header())
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		errVersion.answer(w)
		return nil, fmt.Errorf("%w: %w", errVersion, err)
	}
	if err := sendHead(conn, w.Header(), o); err != nil {
		_ = conn.Close() // its client is gone
		return nil, fmt.Errorf("sse: %w", err)
	}
	return conn, nil
}

func sendHead(conn net.Conn, header http.Header, o *Options) error {
	// net/http set a deadline for reading the request.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(o.WriteTimeout)); err != nil {
		return err
	}
	var head strings.Builder
	head.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n")
	_ = header.Write(&head)                   // a strings.Builder takes everything
	wait := returnTime/2 + rand.N(returnTime) //nolint:gosec // no secret
	fmt.Fprintf(&head, "\r\nretry: %d\n\n", wait.Milliseconds())
	if _, err := conn.Write([]byte(head.String())); err != nil {
		return err
	}
	return boundUnacknowledged(conn, o.AckTimeout)
}

// awaitEnd returns when the client is gone, or sends what no client of a stream sends.
func awaitEnd(conn net.Conn) {
	var room [64]byte
	for stray := 0; stray <= strayBytes; {
		n, err := conn.Read(room[:])
		if err != nil {
			return
		}
		stray += n
	}
}
