package socket

import (
	"encoding/binary"
	"unicode/utf8"
)

// Most messages of browsers are one short frame that has come whole, and so is the frame that closes
// a connection. They need no parser, which costs more than the rest of such a message. Everything
// else is left to coder/websocket: fragments, compressed messages, pings, and frames that break a
// rule.

// binaryHeader is the first byte of a binary message of one frame: FIN, opcode 2.
const binaryHeader = 0x82

// wholeFrame is a frame of a client that has come whole.
type wholeFrame struct {
	head    byte   // its first byte
	mask    []byte // 4 bytes
	payload []byte // masked
	size    int    // bytes of the frame, header included
}

// wholeFrameOf returns the frame with which b begins. ok is false if it has not come whole, or is
// neither a message of one frame nor a close frame.
func wholeFrameOf(b []byte) (f wholeFrame, ok bool) {
	const maskBit, maskSize = 0x80, 4
	if len(b) < 2 || b[1]&maskBit == 0 {
		return wholeFrame{}, false
	}
	f.head = b[0]
	length, at := int(b[1]&^maskBit), 2
	switch {
	case f.head != textHeader && f.head != binaryHeader && f.head != closeHeader, length == lengthIs64Bit:
		return wholeFrame{}, false
	case length == lengthIs16Bit:
		if f.head == closeHeader || len(b) < 4 {
			return wholeFrame{}, false
		}
		length, at = int(binary.BigEndian.Uint16(b[2:])), 4
	}
	if f.size = at + maskSize + length; len(b) < f.size {
		return wholeFrame{}, false
	}
	f.mask, f.payload = b[at:at+maskSize], b[at+maskSize:f.size]
	return f, true
}

// appendPayload appends the payload without its mask (RFC 6455, section 5.3).
func (f *wholeFrame) appendPayload(dst []byte) []byte {
	mask := [4]byte(f.mask)
	for i, b := range f.payload {
		dst = append(dst, b^mask[i&3])
	}
	return dst
}

// nextWhole returns the next message, or the peer's close frame as an error, if it has come whole. If
// ok is false, it has taken nothing, and the parser is needed. No message may be under way.
func (c *Conn) nextWhole(b Budget) (m Message, ok bool, err error) {
	f, ok := wholeFrameOf(c.in.ready())
	if !ok || int64(len(f.payload)) > c.options.MaxMessage {
		return Message{}, false, nil
	}
	if f.head == closeHeader {
		var room [maxLength7]byte
		closed, ok := closedBy(f.appendPayload(room[:0]))
		if !ok {
			return Message{}, false, nil
		}
		if err := c.take(f.size); err != nil {
			return Message{}, true, err
		}
		return Message{}, true, closed
	}
	data := make([]byte, 0, len(f.payload))
	if err := b.Take(Held(data)); err != nil {
		return Message{}, true, err
	}
	m = Message{Binary: f.head == binaryHeader, Data: f.appendPayload(data)}
	if err = c.take(f.size); err == nil && !m.Binary && !utf8.Valid(m.Data) {
		err = ErrNotUTF8
	}
	if err != nil {
		b.Give(Held(data))
		return Message{}, true, err
	}
	return m, true, nil
}

// closedBy returns what a close frame says. ok is false if it may break a rule.
func closedBy(payload []byte) (closed ClosedError, ok bool) {
	if len(payload) == 0 {
		return ClosedError{StatusNoStatusRcvd}, true
	}
	if len(payload) < 2 || !utf8.Valid(payload[2:]) {
		return ClosedError{}, false
	}
	code := StatusCode(binary.BigEndian.Uint16(payload))
	ok = code == StatusNormalClosure || code == StatusGoingAway || code >= 3000 && code <= 4999
	return ClosedError{code}, ok
}
