package socket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Upgrade agrees to a handshake and takes the connection over from net/http. The answer leaves
// together with the first frames that are written, or with [Conn.Begin]. If Upgrade returns an error,
// it has answered the request if that was still possible.
func Upgrade(w http.ResponseWriter, r *http.Request, o *Options) (*Conn, error) {
	agreed := websocket.AcceptOptions{OriginPatterns: o.OriginPatterns}
	if o.Compress {
		agreed.CompressionMode = websocket.CompressionNoContextTakeover
	}
	if offered := findToken(r.Header, protocolHeader, o.Protocol); offered != "" {
		offered = strings.Clone(offered) // coder/websocket keeps it, and the whole header with it
		r.Header[protocolHeader] = []string{offered}
		agreed.Subprotocols = []string{o.Protocol}
	}
	u := &upgrader{ResponseWriter: w, request: r, options: o}
	if err := u.agree(&agreed); u.taken == nil {
		return nil, err
	}
	clear(w.Header()) // net/http goes on to answer a connection that it does not have anymore
	return u.taken, nil
}

const protocolHeader = "Sec-Websocket-Protocol"

// errTakenOver is how Hijack leaves coder/websocket, as [http.ErrAbortHandler] leaves a handler. If
// Hijack returned, coder/websocket would make a connection of its own, and most connections never need
// one: see [Conn.next]. If Hijack returned an error, it would be wrapped, and answered.
var errTakenOver = errors.New("socket: taken over")

// upgrader is the ResponseWriter that websocket.Accept gets. Its Hijack takes the connection over, as
// a Conn, once coder/websocket has agreed to the handshake.
type upgrader struct {
	http.ResponseWriter

	request *http.Request
	options *Options
	taken   *Conn // set by Hijack
}

// agree has coder/websocket check the handshake and set the headers of the answer.
func (u *upgrader) agree(o *websocket.AcceptOptions) error {
	defer func() {
		if v := recover(); v != nil && v != any(errTakenOver) {
			panic(v)
		}
	}()
	_, err := websocket.Accept(u, u.request, o)
	return err
}

// WriteHeader holds the answer 101 back until Hijack. net/http keeps reading until then, so Hijack
// could take the first byte of a client that was told to begin for one that came too early.
func (u *upgrader) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		u.ResponseWriter.WriteHeader(status)
	}
}

// Write sends our answer instead of coder/websocket's, which contains the text of a Go error.
func (u *upgrader) Write(p []byte) (int, error) {
	if _, err := u.ResponseWriter.Write([]byte(`{"code":"handshake"}` + "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Hijack implements http.Hijacker. It leaves the answer 101 to the Conn, and panics with errTakenOver
// if all is well.
func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, early, err := u.takeOver()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(u.options.WriteTimeout)) // a dead socket shows at the write
	if early {
		// RFC 6455, section 4.1: a client must not send anything before it has seen the answer.
		_, err := conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
		_ = conn.Close() // the error is what counts
		return nil, nil, errors.Join(errors.New("socket: data before the handshake was answered"), err)
	}
	room, _ := greetings.Get().(*greeting)
	answer := bytes.NewBuffer(room[:0])
	answer.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = u.Header().Write(answer) // a buffer takes everything
	answer.WriteString("\r\n")
	u.taken = newConn(conn, u.options)
	u.taken.compressed = u.Header().Get("Sec-Websocket-Extensions") != ""
	u.taken.greetWith(answer.Bytes())
	panic(errTakenOver)
}

// takeOver takes the connection from net/http. early says that the client has sent something after the
// request.
func (u *upgrader) takeOver() (conn net.Conn, early bool, err error) {
	l := lentBy(u.request)
	if l != nil {
		if tcp, ok := l.takeBack(); ok {
			return tcp, false, nil
		}
	}
	conn, rw, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, false, err
	}
	if conn == net.Conn(l) {
		conn = l.hijacked()
	}
	return conn, rw.Reader.Buffered() > 0, nil
}

// IsHandshake reports whether the request is a WebSocket handshake (RFC 6455, section 4.2.1), so
// that one that cannot succeed costs no queries.
func IsHandshake(r *http.Request) bool {
	if r.ContentLength != 0 || r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		return false
	}
	if r.Header.Get("Sec-Websocket-Version") != "13" || len(r.Header.Values("Sec-Websocket-Key")) != 1 {
		return false
	}
	var key [keyBytes + 2]byte // with padding, to the end of three bytes
	text := strings.TrimSpace(r.Header.Get("Sec-Websocket-Key"))
	if len(text) != base64.StdEncoding.EncodedLen(keyBytes) {
		return false
	}
	n, err := base64.StdEncoding.Decode(key[:], []byte(text))
	return err == nil && n == keyBytes
}

// keyBytes is the length of a handshake's nonce (RFC 6455, section 4.1).
const keyBytes = 16

// hasToken reports whether a header with a list contains the token, regardless of case.
func hasToken(h http.Header, name, token string) bool { return findToken(h, name, token) != "" }

// findToken returns the token as a header with a list spells it, or "" if it is not there.
func findToken(h http.Header, name, token string) string {
	for _, value := range h.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); strings.EqualFold(part, token) {
				return part
			}
		}
	}
	return ""
}

// Offers reports whether a handshake offers the subprotocol, regardless of case. Upgrade answers in
// the client's own spelling, because the answer must be one that the client offered.
func Offers(r *http.Request, protocol string) bool {
	return hasToken(r.Header, protocolHeader, protocol)
}
