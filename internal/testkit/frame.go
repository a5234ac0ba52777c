package testkit

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Opcodes of RFC 6455, section 5.2.
const (
	OpContinuation byte = 0x0
	OpText         byte = 0x1
	OpBinary       byte = 0x2
	OpClose        byte = 0x8
	OpPing         byte = 0x9
	OpPong         byte = 0xA
)

const (
	finBit        = 0x80
	maskBit       = 0x80
	rsvShift      = 4
	maxFrameBytes = 64 << 20 // more than any test expects
)

// Frame is one frame on the wire. It is not checked for validity.
type Frame struct {
	Opcode byte
	// More clears the FIN bit: a further fragment follows.
	More bool
	// RSV holds the three reserved bits, as 0 to 7.
	RSV byte
	// Unmasked leaves the frame unmasked, as servers send it and clients must not.
	Unmasked bool
	Payload  []byte
}

// Bytes returns the frame as a client sends it.
func (f Frame) Bytes() []byte {
	b := []byte{f.Opcode | f.RSV<<rsvShift, 0}
	if !f.More {
		b[0] |= finBit
	}
	switch n := len(f.Payload); {
	case n <= 125:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if f.Unmasked {
		return append(b, f.Payload...)
	}
	b[1] |= maskBit
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d} // the example of RFC 6455; tests have nothing to hide
	b = append(b, mask[:]...)
	for i, c := range f.Payload {
		b = append(b, c^mask[i%len(mask)])
	}
	return b
}

// CloseFrame returns the frame that closes with a code and a reason.
func CloseFrame(code int, reason string) Frame {
	return Frame{Opcode: OpClose, Payload: append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)} //nolint:gosec // codes have 16 bits
}

// Close returns the code and reason of a close frame. Code 1005 means that it has none.
func (f Frame) Close() (code int, reason string) {
	if len(f.Payload) < 2 {
		return 1005, ""
	}
	return int(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:])
}

// String describes the frame for test messages.
func (f Frame) String() string {
	if f.Opcode == OpClose {
		code, reason := f.Close()
		return fmt.Sprintf("close %d %q", code, reason)
	}
	return fmt.Sprintf("opcode %#x, more %t: %.200q", f.Opcode, f.More, f.Payload)
}

// readFrame reads a frame of a server and refuses frames that servers must not send. The server may
// set the reserved bits in rsv.
func readFrame(r *bufio.Reader, rsv byte) (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Opcode: head[0] & 0x0f, More: head[0]&finBit == 0, RSV: head[0] >> rsvShift & 7, Unmasked: true}
	size := uint64(head[1] &^ maskBit)
	switch {
	case head[1]&maskBit != 0:
		return Frame{}, fmt.Errorf("server sent a masked frame: % x", head)
	case f.RSV&^rsv != 0:
		return Frame{}, fmt.Errorf("server sent reserved bits: % x", head)
	case f.Opcode >= OpClose && (f.More || size > 125):
		return Frame{}, fmt.Errorf("server sent a fragmented or long control frame: % x", head)
	}
	switch size {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return Frame{}, err
		}
		size = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return Frame{}, err
		}
		size = binary.BigEndian.Uint64(b[:])
	}
	if size > maxFrameBytes {
		return Frame{}, fmt.Errorf("server announced %d bytes", size)
	}
	f.Payload = make([]byte, size)
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		return f, err
	}
	if code, _ := f.Close(); f.Opcode == OpClose && size > 0 && (size == 1 || code < 1000 || code == 1005 || code == 1006 || code == 1015) {
		return f, fmt.Errorf("server sent a close frame that browsers take for a lost connection: % x", f.Payload)
	}
	return f, nil
}
