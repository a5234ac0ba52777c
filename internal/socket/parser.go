package socket

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

const (
	// readBufferSize holds a typical client frame whole; larger ones are read in pieces.
	// Where the Conn has read already, coder/websocket needs room for a header only.
	readBufferSize   = 512
	headerBufferSize = 16
	// controlBufferSize holds any control frame whole (RFC 6455, section 5.5: 125 bytes and a
	// header of 2), so that each leaves coder/websocket in a single Write.
	controlBufferSize = 128
)

// parser is coder/websocket at work on one connection: it reads messages, answers pings and sees
// the peer's close frame.
//
// It is a quarter of what an idle connection would hold, and between messages it remembers nothing:
// each message is compressed by itself, and no byte is read ahead (see [ErrIdle]). So a connection
// that waits has none, and begins another, never one that served somebody else, when bytes come.
type parser struct {
	ws       *websocket.Conn
	borrowed *borrowedConn
}

// close ends the parser where its connection ends, too.
func (p *parser) close() { _ = p.ws.CloseNow() } // what is below, Conn closes

// retire ends the parser between messages and leaves the Conn as it is.
func (p *parser) retire() {
	p.borrowed.returned = true
	_ = p.ws.CloseNow() // it has nothing to close
}

// errTrailing is what reading ends with when a compressed message ended before its frame did. What
// follows in the frame coder/websocket would take for frames, which nobody has counted.
var errTrailing = errors.New("socket: bytes behind the end of a compressed message")

// ended returns an error unless the frame of a message that was read whole is through, too.
func (p *parser) ended() error {
	if !p.borrowed.socket.in.frame.between() || p.borrowed.ahead.Buffered() > 0 {
		return errTrailing
	}
	return nil
}

// borrowedConn is a connection as a parser has it.
type borrowedConn struct {
	net.Conn

	socket   *Conn
	ahead    *bufio.Reader // what the parser reads through
	returned bool          // the parser has retired, and the Conn outlives it
}

// Read implements net.Conn.
func (b *borrowedConn) Read(p []byte) (int, error) { return b.socket.read(p) }

// Write implements net.Conn.
func (b *borrowedConn) Write(p []byte) (int, error) { return b.socket.writeControl(p) }

// Close implements net.Conn. It ends the parser's reading and leaves the Conn open: where the
// parser has seen the peer's close frame, answers and ours are still due.
func (b *borrowedConn) Close() error {
	if b.returned {
		return nil
	}
	return b.SetReadDeadline(time.Unix(1, 0))
}

// buffers returns what the parser reads and writes through.
func (b *borrowedConn) buffers() *bufio.ReadWriter {
	size := readBufferSize
	if b.socket.in.raw != nil {
		size = headerBufferSize // the Conn has read already
	}
	b.ahead = bufio.NewReaderSize(b, size)
	return bufio.NewReadWriter(b.ahead, bufio.NewWriterSize(b, controlBufferSize))
}

// newParser begins a parser for a connection whose handshake is long over. coder/websocket has no
// other way in than a handshake, so it is shown one that has been agreed to.
func (c *Conn) newParser() (*parser, error) {
	again, o := plainAgain, websocket.AcceptOptions{}
	if c.compressed {
		again, o.CompressionMode = deflateAgain, websocket.CompressionNoContextTakeover
	}
	r := &resumption{header: make(http.Header, len(again.Header)), borrowed: &borrowedConn{Conn: c.conn, socket: c}}
	ws, err := websocket.Accept(r, again, &o)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(c.options.MaxMessage)
	return &parser{ws: ws, borrowed: r.borrowed}, nil
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
	header   http.Header
	borrowed *borrowedConn
}

// Header implements http.ResponseWriter.
func (r *resumption) Header() http.Header { return r.header }

// Write implements http.ResponseWriter.
func (*resumption) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (*resumption) WriteHeader(int) {}

// Hijack implements http.Hijacker.
func (r *resumption) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return r.borrowed, r.borrowed.buffers(), nil
}
