package socket

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
)

// A server's text frame is never masked, and ours are never fragmented. So the header has two
// bytes, and from 126 bytes of payload on, two or eight bytes of length (RFC 6455, section 5.2).
const (
	textHeader    = 0x81 // FIN, opcode 1
	maxLength7    = 125
	maxLength16   = 1<<16 - 1
	lengthIs16Bit = 126
	lengthIs64Bit = 127
	// rsv1 marks a message that is deflated (RFC 7692, section 6).
	rsv1 = 0x40
	// flateTail ends every flushed deflate stream and is not sent (RFC 7692, section 7.2.1).
	flateTail = 4
)

// NewTextFrame returns the header of a text frame, in a slice with room for the size bytes of
// payload that the caller appends.
func NewTextFrame(size int) []byte {
	switch {
	case size <= maxLength7:
		frame := make([]byte, 2, 2+size)
		frame[0], frame[1] = textHeader, byte(size) //nolint:gosec // at most 125
		return frame
	case size <= maxLength16:
		frame := make([]byte, 4, 4+size)
		frame[0], frame[1] = textHeader, lengthIs16Bit
		binary.BigEndian.PutUint16(frame[2:], uint16(size))
		return frame
	default:
		frame := make([]byte, 10, 10+size)
		frame[0], frame[1] = textHeader, lengthIs64Bit
		binary.BigEndian.PutUint64(frame[2:], uint64(size))
		return frame
	}
}

// TextFrame returns a text frame.
func TextFrame(payload []byte) []byte { return append(NewTextFrame(len(payload)), payload...) }

// headerLength returns the length of a header that NewTextFrame made.
func headerLength(frame []byte) int {
	switch frame[1] {
	case lengthIs16Bit:
		return 4
	case lengthIs64Bit:
		return 10
	default:
		return 2
	}
}

// deflater is a compressor with room for its output.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any { //nolint:gochecknoglobals // a pool is shared by nature
	d := new(deflater)
	d.w, _ = flate.NewWriter(&d.out, flate.BestSpeed) // the level is valid
	return d
}}

// Deflate returns a text frame for connections with permessage-deflate, without context takeover.
// The payload is compressed if it has at least threshold bytes and becomes smaller. Deflate does
// not change frame itself.
func Deflate(frame []byte, threshold int) []byte {
	payload := frame[headerLength(frame):]
	if len(payload) < threshold {
		return frame
	}
	d, _ := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(payload) // a buffer takes everything
	_ = d.w.Flush()
	packed := d.out.Bytes()[:d.out.Len()-flateTail]
	if len(packed) >= len(payload) {
		return frame
	}
	smaller := TextFrame(packed)
	smaller[0] |= rsv1
	return smaller
}
