package socket

import "math"

// framing follows the bytes of a client's frames (RFC 6455, section 5.2) just closely enough to
// tell where a message ends and how large it is on the wire. It checks nothing else.
type framing struct {
	head       [14]byte
	got        uint8  // bytes of head that have come
	left       uint64 // bytes of the payload that are still to come
	fragmented bool   // a message has begun, but not its last frame
	packed     bool   // the newest message is compressed
	begun      int    // frames whose header has come and that are not counted yet
	// payload is the length that the newest message has announced so far. wire also includes its
	// headers and the control frames between its fragments.
	payload, wire uint64
}

// On the wire, a message may have wireFactor times as many bytes as its payload may have, plus
// wireSlack: the headers of tiny fragments count, too.
const (
	wireFactor = 2
	wireSlack  = 1 << 10
	// packedShare bounds how much longer compression may make a message: an eighth, the worst case
	// of codes with 9 bits per byte. Compressors that store what they cannot compress add far less.
	packedShare = 8
	// packedSlack is for the last, empty block of a message and for very small ones.
	packedSlack = 64
)

// tooBig reports whether the headers of the newest message announce more than it may have. Counting
// what comes out of a compressed message is not enough: a message of empty stored blocks, 5 bytes
// each, yields nothing and never ends.
func (f *framing) tooBig(limit uint64) bool {
	most := limit
	if f.packed {
		most += limit/packedShare + packedSlack
	}
	return f.payload > most || f.wire > wireFactor*limit+wireSlack
}

// between reports whether no message is under way.
func (f *framing) between() bool { return f.got == 0 && f.left == 0 && !f.fragmented }

// want returns how many bytes are sure to belong to the current frame, or between frames to the
// next one.
func (f *framing) want() uint64 {
	if f.left > 0 {
		return f.left
	}
	return uint64(f.headerSize() - f.got)
}

// headerSize returns the length of the header, as far as it is known.
func (f *framing) headerSize() uint8 {
	size := uint8(2)
	if f.got < size {
		return size
	}
	switch f.head[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.head[1]&0x80 != 0 {
		size += 4 // the mask
	}
	return size
}

// pass follows bytes.
func (f *framing) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.got] = p[0]
		f.got++
		p = p[1:]
		if f.got < f.headerSize() {
			continue
		}
		header := uint64(f.got)
		length := uint64(f.head[1] & 0x7f)
		if length >= 126 {
			size := 2
			if length == 127 {
				size = 8
			}
			length = 0
			for _, b := range f.head[2 : 2+size] {
				length = length<<8 | uint64(b)
			}
		}
		f.left, f.got = length, 0
		f.begun++
		f.measure(header, length)
	}
}

// measure adds a frame whose header has come.
func (f *framing) measure(header, length uint64) {
	const fin, rsv1, continuation = 0x80, 0x40, 0
	length = min(length, math.MaxInt64) // so that sums do not wrap; longer ones are not legal
	opcode := f.head[0] & opMask
	data := opcode < opClose
	if data && opcode != continuation {
		f.payload, f.wire, f.packed = 0, 0, f.head[0]&rsv1 != 0
	}
	if data {
		f.payload = min(f.payload+length, math.MaxInt64)
		f.fragmented = f.head[0]&fin == 0
	}
	f.wire = min(f.wire+header+length, math.MaxInt64)
}
