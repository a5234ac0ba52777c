package gateway

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// parser is coder/websocket at work on one connection: it reads messages, answers pings and sees
// the peer's close frame.
//
// It is a quarter of what an idle connection would hold, and between messages it remembers nothing:
// each message is compressed by itself, and no byte is read ahead (see [errIdle]). So a connection
// that waits has none, and begins another, never one that served somebody else, when bytes come.
type parser struct {
	ws   *websocket.Conn
	lent *lent
}

// close ends the parser and the wire below it.
func (p *parser) close() {
	_ = p.ws.CloseNow()
	_ = p.lent.wire.Close() // a dead socket shows at the close
}

// retire ends the parser between messages and leaves the wire as it is.
func (p *parser) retire() {
	p.lent.returned = true
	_ = p.ws.CloseNow() // it has nothing to close
}

// errTrailing is what reading ends with when a compressed message ended before its frame did. What
// follows in the frame coder/websocket would take for frames, which nobody has counted.
var errTrailing = errors.New("gateway: bytes behind the end of a compressed message")

// ended returns an error unless the frame of a message that was read whole is through, too.
func (p *parser) ended() error {
	if !p.lent.in.frame.between() || p.lent.ahead.Buffered() > 0 {
		return errTrailing
	}
	return nil
}

// lent is a wire as a parser has it.
type lent struct {
	*wire

	ahead    *bufio.Reader // what the parser reads through
	returned bool          // the parser has retired, and the wire outlives it
}

// Close implements net.Conn. It ends the parser's reading and leaves the wire open: where the parser has
// seen the peer's close frame, answers and ours are still due.
func (l *lent) Close() error {
	if l.returned {
		return nil
	}
	return l.SetReadDeadline(time.Unix(1, 0))
}

// buffers returns what the parser reads and writes through.
func (l *lent) buffers() *bufio.ReadWriter {
	size := readBufferSize
	if l.in.raw != nil {
		size = headerBufferSize // the wire has read already
	}
	l.ahead = bufio.NewReaderSize(l.wire, size)
	return bufio.NewReadWriter(l.ahead, bufio.NewWriterSize(l.wire, controlBufferSize))
}

// newParser begins a parser for a connection whose handshake is long over. coder/websocket has no
// other way in than a handshake, so it is shown one that has been agreed to.
func (w *wire) newParser(deflate bool) (*parser, error) {
	again, o := plainAgain, websocket.AcceptOptions{}
	if deflate {
		again, o.CompressionMode = deflateAgain, websocket.CompressionNoContextTakeover
	}
	r := &resumption{header: make(http.Header, len(again.Header)), lent: &lent{wire: w}}
	ws, err := websocket.Accept(r, again, &o)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(w.options.MaxFrame)
	return &parser{ws: ws, lent: r.lent}, nil
}

// Handshakes that newParser shows. They are only read.
//
//nolint:gochecknoglobals // constant
var (
	plainAgain   = handshakeAgain("")
	deflateAgain = handshakeAgain("permessage-deflate")
)

func handshakeAgain(extensions string) *http.Request {
	r := &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}
	if extensions != "" {
		r.Header.Set("Sec-Websocket-Extensions", extensions)
	}
	return r
}

// resumption is the ResponseWriter of such a handshake. The answer goes nowhere.
type resumption struct {
	header http.Header
	lent   *lent
}

// Header implements http.ResponseWriter.
func (r *resumption) Header() http.Header { return r.header }

// Write implements http.ResponseWriter.
func (*resumption) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (*resumption) WriteHeader(int) {}

// Hijack implements http.Hijacker.
func (r *resumption) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return r.lent, r.lent.buffers(), nil
}
