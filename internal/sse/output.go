package sse

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// strayBytes is how much a client may send after its request. Browsers and proxies send nothing, or
// an extra line end.
const strayBytes = 1 << 10

// open sends the head of the response and takes over the connection. The end of the connection is
// the end of the response, as HTTP/1.1 allows (RFC 9112, section 6.3). So a stream needs no
// goroutine and no buffers of net/http. If open fails, it has answered or closed the connection.
func open(w http.ResponseWriter, o *Options) (net.Conn, error) {
	begin(w.Header())
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		errVersion.answer(w)
		return nil, fmt.Errorf("%w: %w", errVersion, err)
	}
	if err := sendHead(conn, w.Header(), o); err != nil {
		_ = conn.Close() // its client has disconnected
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
	_ = header.Write(&head)                   // a strings.Builder never fails
	wait := returnTime/2 + rand.N(returnTime) //nolint:gosec // jitter is not a secret
	fmt.Fprintf(&head, "\r\nretry: %d\n\n", wait.Milliseconds())
	if _, err := conn.Write([]byte(head.String())); err != nil {
		return err
	}
	return boundUnacknowledged(conn, o.AckTimeout)
}

// awaitEnd returns when the client has disconnected, or sends more than strayBytes.
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
