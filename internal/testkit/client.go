package testkit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 prescribes it
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// handshakeKey is the example of RFC 6455, section 1.3.
const handshakeKey = "dGhlIHNhbXBsZSBub25jZQ=="

// DialFunc opens a connection to a server.
type DialFunc func(ctx context.Context) (net.Conn, error)

// DialTCP returns a DialFunc for an address.
func DialTCP(addr string) DialFunc {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
}

// Handshake is a request for an upgrade, as valid or invalid as a test wants it.
type Handshake struct {
	Method string // default GET
	Path   string // the request target as it goes over the wire; default /
	Proto  string // default HTTP/1.1
	// Header replaces header lines of the default handshake and adds others. A name without
	// values is left out. [Bearing] says what becomes of tokens.
	Header http.Header
	// Tail is sent right after the header, in the same write.
	Tail []byte
	// Stream requests server-sent events instead of an upgrade, with Body, if any, as JSON.
	Stream bool
	Body   string
}

// Bytes returns the request.
func (h Handshake) Bytes() []byte {
	header := http.Header{
		"Host": {"gateway.test"}, "Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {handshakeKey},
	}
	if h.Stream {
		header = http.Header{"Host": {"gateway.test"}}
	}
	if h.Body != "" {
		header["Content-Type"], header["Content-Length"] = []string{"application/json"}, []string{strconv.Itoa(len(h.Body))}
	}
	for name, values := range Bearing(h.Header, !h.Stream && len(h.Header["Origin"]) > 0) {
		header[http.CanonicalHeaderKey(name)] = values
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", orDefault(h.Method, "GET"), orDefault(h.Path, "/"), orDefault(h.Proto, "HTTP/1.1"))
	for _, name := range sortedKeys(header) {
		for _, value := range header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	b.WriteString("\r\n" + h.Body)
	b.Write(h.Tail)
	return b.Bytes()
}

func sortedKeys(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// Answer is a server's answer to a handshake.
type Answer struct {
	Status int
	Header http.Header
	Body   string // empty after an upgrade and for a stream
}

// Client is a WebSocket client that can violate the protocol, or the client of a stream of
// server-sent events. Each read has a deadline, so that a test fails instead of hanging. One
// goroutine may read, and another may write.
type Client struct {
	net.Conn

	// Timeout bounds each read. 0 means none, for tests with a fake clock.
	Timeout time.Duration
	// RSV has the reserved bits that the server may set, because an extension was negotiated.
	RSV byte
	br  *bufio.Reader

	stream *stream // nil on a WebSocket
}

// Try sends a handshake and returns the answer, and the client if the server upgraded the
// connection. Otherwise the connection is closed. The client is closed at the end of the test at
// the latest.
func Try(tb testing.TB, dial DialFunc, h Handshake) (*Client, Answer) {
	tb.Helper()
	c, answer, err := Open(tb.Context(), dial, h)
	if err != nil {
		tb.Fatalf("handshake: %v", err)
	}
	if c == nil {
		return nil, answer
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c, answer
}

// Connect is Try for a handshake that must succeed.
func Connect(tb testing.TB, dial DialFunc, h Handshake) *Client {
	tb.Helper()
	c, answer := Try(tb, dial, h)
	if c == nil {
		tb.Fatalf("handshake at %s: got %d %s, want 101", h.Path, answer.Status, answer.Body)
	}
	return c
}

// Open is Try for goroutines other than the test's own.
func Open(ctx context.Context, dial DialFunc, h Handshake) (*Client, Answer, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, Answer{}, err
	}
	c := &Client{Conn: conn, Timeout: Patience, br: bufio.NewReader(conn)}
	answer, err := c.handshake(h)
	if err != nil || answer.Status != http.StatusSwitchingProtocols && c.stream == nil {
		return nil, answer, errors.Join(err, conn.Close())
	}
	return c, answer, nil
}

func (c *Client) handshake(h Handshake) (Answer, error) {
	c.extend()
	if _, err := c.Write(h.Bytes()); err != nil {
		return Answer{}, err
	}
	response, err := http.ReadResponse(c.br, &http.Request{Method: orDefault(h.Method, http.MethodGet)})
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Status: response.StatusCode, Header: response.Header}
	if answer.Status == http.StatusSwitchingProtocols {
		sum := sha1.Sum([]byte(handshakeKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 prescribes it
		if got, want := answer.Header.Get("Sec-Websocket-Accept"), base64.StdEncoding.EncodeToString(sum[:]); got != want {
			return answer, fmt.Errorf("Sec-WebSocket-Accept is %q, want %q", got, want)
		}
		return answer, nil
	}
	if h.Stream && answer.Status == http.StatusOK && answer.Header.Get("Content-Type") == streamType {
		c.stream = new(stream)
		c.br = bufio.NewReader(response.Body)
		return answer, nil
	}
	body, err := io.ReadAll(response.Body)
	answer.Body = string(body)
	return answer, errors.Join(err, response.Body.Close())
}

func (c *Client) extend() {
	var deadline time.Time // none
	if c.Timeout > 0 {
		deadline = time.Now().Add(c.Timeout)
	}
	_ = c.SetReadDeadline(deadline) // a dead socket shows at the read
}

// Send writes frames in one write.
func (c *Client) Send(frames ...Frame) error {
	var b []byte
	for _, f := range frames {
		b = append(b, f.Bytes()...)
	}
	_, err := c.Write(b)
	return err
}

// SendText writes a text frame.
func (c *Client) SendText(text string) error {
	return c.Send(Frame{Opcode: OpText, Payload: []byte(text)})
}

// ReadFrame returns the next frame.
func (c *Client) ReadFrame() (Frame, error) {
	c.extend()
	return readFrame(c.br, c.RSV)
}

// Next returns the text of the next data frame or event. It answers pings. A close frame is
// returned as a [*ClosedError].
func (c *Client) Next() (string, error) {
	if c.stream != nil {
		return c.nextEvent()
	}
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return "", err
		}
		switch f.Opcode {
		case OpText:
			if f.More {
				return "", fmt.Errorf("server sent a fragment: %v", f)
			}
			return string(f.Payload), nil
		case OpPing:
			if err := c.Send(Frame{Opcode: OpPong, Payload: f.Payload}); err != nil {
				return "", err
			}
		case OpPong:
		case OpClose:
			code, reason := f.Close()
			return "", &ClosedError{Code: code, Reason: reason}
		default:
			return "", fmt.Errorf("unexpected frame: %v", f)
		}
	}
}

// ClosedError is the error of reading a close frame.
type ClosedError struct {
	Code   int
	Reason string
}

// Error implements error.
func (c *ClosedError) Error() string { return fmt.Sprintf("closed: %d %s", c.Code, c.Reason) }

// Expect reads one data frame and compares it with want as JSON.
func (c *Client) Expect(tb testing.TB, want string) {
	tb.Helper()
	got, err := c.Next()
	if err != nil {
		tb.Fatalf("read: got %v, want %s", err, want)
	}
	if !SameJSON(got, want) {
		tb.Fatalf("frame: got %s, want %s", got, want)
	}
}

// SameJSON reports whether two texts are the same JSON value, with fields in any order.
func SameJSON(a, b string) bool {
	if a == b {
		return true
	}
	var left, right bytes.Buffer
	return canonical(&left, a) && canonical(&right, b) && left.String() == right.String()
}

func canonical(w io.Writer, text string) bool {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return false
	}
	return json.NewEncoder(w).Encode(v) == nil
}

// ExpectClose reads up to the close frame, answers it, compares its code, and checks that the
// server closes the connection. It returns the data frames before it.
func (c *Client) ExpectClose(tb testing.TB, code int) (frames []string, reason string) {
	tb.Helper()
	for {
		text, err := c.Next()
		if err == nil {
			frames = append(frames, text)
			continue
		}
		var closed *ClosedError
		if !errors.As(err, &closed) {
			tb.Fatalf("read: got %v, want close frame %d", err, code)
		}
		if closed.Code != code {
			tb.Fatalf("close: got %d %q, want %d", closed.Code, closed.Reason, code)
		}
		if c.stream == nil {
			_ = c.Send(CloseFrame(closed.Code, "")) // the server may have closed already
			c.HalfClose()
		}
		c.ExpectEnd(tb)
		return frames, closed.Reason
	}
}

// HalfClose tells the server that the client sends no more. After a violation of the protocol, the
// server no longer waits for a close frame, but for this.
func (c *Client) HalfClose() {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = tcp.CloseWrite() // the server may have closed already
	}
}

// ExpectEnd checks that the server closes the connection and sends nothing more.
func (c *Client) ExpectEnd(tb testing.TB) {
	tb.Helper()
	c.extend()
	var f any
	var err error
	if c.stream == nil {
		f, err = c.ReadFrame()
	} else {
		f, err = c.br.ReadString('\n')
	}
	if err == nil {
		tb.Fatalf("got %v, want the end of the connection", f)
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		tb.Fatal("the server did not close the connection")
	}
}
