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
	// readBufferSize holds a typical client frame whole; larger ones are read in pieces. Where the
	// Conn has read already, coder/websocket needs room only for a header.
	readBufferSize   = 512
	headerBufferSize = 16
	// controlBufferSize holds any control frame whole (RFC 6455, section 5.5: 125 bytes and a
	// header of 2), so that each leaves coder/websocket in a single Write.
	controlBufferSize = 128
)

// parser is coder/websocket at work on one connection: it reads messages, answers pings and sees
// the peer's close frame.
//
// A parser would be a quarter of an idle connection's memory, and it keeps no state between
// messages: each message is compressed by itself, and no byte is read ahead (see [ErrIdle]). So an
// idle connection drops its parser and makes a new one when bytes come. Parsers are never pooled.
type parser struct {
	ws       *websocket.Conn
	borrowed *borrowedConn
}

// close ends the parser together with its connection.
func (p *parser) close() { _ = p.ws.CloseNow() } // Conn closes what is below it

// retire ends the parser between messages and leaves the Conn as it is.
func (p *parser) retire() {
	p.borrowed.returned = true
	_ = p.ws.CloseNow() // it has nothing to close
}

// dropParser drops the parser between messages, if there is one.
func (c *Conn) dropParser() {
	if c.parser != nil {
		c.parser.retire()
		c.parser = nil
	}
}

// errTrailing ends reading when a compressed message ends before its frame does. coder/websocket
// would take the rest of the frame for further frames, which nobody has counted.
var errTrailing = errors.New("socket: bytes after the end of a compressed message")

// ended returns an error unless the last frame of a message has ended together with the message.
func (p *parser) ended() error {
	if !p.borrowed.socket.in.frame.between() || p.borrowed.ahead.Buffered() > 0 {
		return errTrailing
	}
	return nil
}

// borrowedConn is a parser's view of a connection.
type borrowedConn struct {
	net.Conn

	socket   *Conn
	ahead    *bufio.Reader // what the parser reads through
	returned bool          // the parser has retired; the Conn goes on
}

// Read implements net.Conn.
func (b *borrowedConn) Read(p []byte) (int, error) { return b.socket.read(p) }

// Write implements net.Conn.
func (b *borrowedConn) Write(p []byte) (int, error) { return b.socket.writeControl(p) }

// Close implements net.Conn. It ends the parser's reading and leaves the Conn open: after the
// peer's close frame, answers and our own close frame are still to be sent.
func (b *borrowedConn) Close() error {
	if b.returned {
		return nil
	}
	return b.SetReadDeadline(time.Unix(1, 0))
}

// buffers returns the parser's buffers.
func (b *borrowedConn) buffers() *bufio.ReadWriter {
	size := readBufferSize
	if b.socket.in.raw != nil {
		size = headerBufferSize // the Conn has read already
	}
	b.ahead = bufio.NewReaderSize(b, size)
	return bufio.NewReadWriter(b.ahead, bufio.NewWriterSize(b, controlBufferSize))
}

// newParser makes a parser for a connection whose handshake is long over. coder/websocket can only
// begin with a handshake, so it is given one that has been agreed on.
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

// Handshakes for newParser. They are only read.
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

// resumption is the ResponseWriter for such a handshake. It discards the answer.
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
