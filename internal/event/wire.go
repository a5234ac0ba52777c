package event

import "encoding/binary"

// A server's text frame is never masked and, here, never fragmented, so its header is two bytes
// and, from 126 bytes of payload on, two or eight bytes of length (RFC 6455, section 5.2).
const (
	textFrame     = 0x81 // FIN, opcode 1
	maxLength7    = 125
	maxLength16   = 1<<16 - 1
	lengthIs16Bit = 126
	lengthIs64Bit = 127
)

// newTextFrame returns a frame with its header filled in and room for size bytes of payload
// after it, and the length of the header.
func newTextFrame(size int) (frame []byte, header int) {
	switch {
	case size <= maxLength7:
		frame = make([]byte, 2+size)
		frame[1] = byte(size) //nolint:gosec // at most 125
		header = 2
	case size <= maxLength16:
		frame = make([]byte, 4+size)
		frame[1] = lengthIs16Bit
		binary.BigEndian.PutUint16(frame[2:], uint16(size))
		header = 4
	default:
		frame = make([]byte, 10+size)
		frame[1] = lengthIs64Bit
		binary.BigEndian.PutUint64(frame[2:], uint64(size))
		header = 10
	}
	frame[0] = textFrame
	return frame, header
}

// headerLength returns the length of the header of a frame that newTextFrame made.
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
