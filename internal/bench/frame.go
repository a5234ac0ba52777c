package bench

import (
	"encoding/binary"
	"errors"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	// maxEvent is the longest event, in bytes: four times the largest of a node.
	maxEvent = 1 << 20
	// maxFrame is the longest payload that a server may send here, in bytes: an event in its
	// envelope. Only a broken stream exceeds it.
	maxFrame = maxEvent + 1<<10
)

// errFrame is returned for bytes that a server must not send.
var errFrame = errors.New("bench: not a server frame of RFC 6455")

// frame is one frame from the server. Its payload points into the buffer that was parsed.
type frame struct {
	final      bool
	compressed bool // RSV1: permessage-deflate
	opcode     byte
	payload    []byte
}

// nextFrame parses the frame at the start of b and returns its length, 0 if b does not contain all
// of it yet. It is called for each delivery, so it neither copies nor allocates.
func nextFrame(b []byte) (f frame, n int, err error) {
	if len(b) < 2 {
		return frame{}, 0, nil
	}
	f.final = b[0]&0x80 != 0
	f.compressed = b[0]&0x40 != 0
	f.opcode = b[0] & 0x0f
	if b[0]&0x30 != 0 || b[1]&0x80 != 0 { // RSV2, RSV3; servers do not mask
		return frame{}, 0, errFrame
	}
	header, size := 2, int(b[1])
	switch f.opcode {
	case opText, opBinary, opContinuation:
	case opClose, opPing, opPong:
		if !f.final || f.compressed || size > 125 {
			return frame{}, 0, errFrame
		}
	default:
		return frame{}, 0, errFrame
	}
	switch size {
	case 126:
		if len(b) < 4 {
			return frame{}, 0, nil
		}
		header, size = 4, int(binary.BigEndian.Uint16(b[2:]))
		if size < 126 {
			return frame{}, 0, errFrame
		}
	case 127:
		if len(b) < 10 {
			return frame{}, 0, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long <= 0xffff || long > maxFrame {
			return frame{}, 0, errFrame
		}
		header, size = 10, int(long)
	}
	if len(b)-header < size {
		return frame{}, 0, nil
	}
	n = header + size
	f.payload = b[header:n]
	return f, n, nil
}

// appendServerFrame appends a whole frame as a server writes it.
func appendServerFrame(dst []byte, opcode byte, payload []byte) []byte {
	return append(appendHeader(dst, opcode, 0, len(payload)), payload...)
}

// appendClientFrame appends a whole frame as a client writes it. Its mask is zero, because masks
// protect proxies from scripts, and there are neither here.
func appendClientFrame(dst []byte, opcode byte, payload []byte) []byte {
	dst = appendHeader(dst, opcode, 0x80, len(payload))
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, payload...)
}

func appendHeader(dst []byte, opcode, mask byte, size int) []byte {
	dst = append(dst, 0x80|opcode)
	switch {
	case size <= 125:
		return append(dst, mask|byte(size)) //nolint:gosec // at most 125
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(size))
	}
}
