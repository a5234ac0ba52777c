package socket

import "math"

// framing follows the bytes of a client's frames (RFC 6455, section 5.2) just far enough to tell
// where a message ends and how large it is on the wire. Otherwise it does not judge them.
type framing struct {
	head       [14]byte
	got        uint8  // bytes of head that have come
	left       uint64 // bytes of the payload that are still to come
	fragmented bool   // a message has begun and its last frame has not
	packed     bool   // the newest message is compressed
	begun      int    // frames whose header has come and which nobody has counted
	// payload is what the newest message has announced so far; wire is that together with its
	// headers and the control frames between its fragments.
	payload, wire uint64
}

// A message may have wireFactor times as many bytes on the wire as it may have payload, and
// wireSlack more: a client that sends tiny fragments pays for their headers, too.
const (
	wireFactor = 2
	wireSlack  = 1 << 10
	// packedShare bounds by how much compression may make a message longer: by an eighth at most,
	// with codes of 9 bits for bytes. Compressors that store what they cannot compress add far
	// less.
	packedShare = 8
	// packedSlack is for the last, empty block of a message and for very small ones.
	packedSlack = 64
)

// tooBig reports whether the newest message is larger than it may be, by what its headers have
// announced. A reader that counts what comes out of a compressed message never sees its end while
// nothing comes out: an empty stored block is 5 bytes.
func (f *framing) tooBig(limit uint64) bool {
	most := limit
	if f.packed {
		most += limit/packedShare + packedSlack
	}
	return f.payload > most || f.wire > wireFactor*limit+wireSlack
}

// between reports whether no message is under way.
func (f *framing) between() bool { return f.got == 0 && f.left == 0 && !f.fragmented }

// want returns how many bytes are sure to belong to the frame under way, or to the next if none is.
func (f *framing) want() uint64 {
	if f.left > 0 {
		return f.left
	}
	return uint64(f.headerSize() - f.got)
}

// headerSize returns how long the header is, as far as what has come of it tells.
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

// pass takes note of bytes.
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

// measure takes note of a frame whose header has come.
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
