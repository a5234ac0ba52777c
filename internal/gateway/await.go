package gateway

import (
	"cmp"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errIdle is what coder/websocket reads where a message ends and no other has begun. It passes the
// error on and can be asked again, and so lets go of a goroutine that it would else hold deep in
// its stack.
var errIdle = errors.New("gateway: no message under way")

// readChunkSize is what is read from a socket at once.
const readChunkSize = 4 << 10

type readChunk [readChunkSize]byte

var readChunks = sync.Pool{New: func() any { return new(readChunk) }} //nolint:gochecknoglobals // a pool is shared by nature

// inbound is the reading half of a wire. If raw is set, the wire never waits between messages, and
// an idle connection costs neither a read buffer nor a grown stack: its one goroutine waits in
// await, in a few small frames, and begins another for what has come.
type inbound struct {
	raw   syscall.RawConn
	chunk *readChunk // holds what was read and not yet asked for; nil if there is none
	ready []byte     // of chunk
	frame framing
	// begun is the age of the connection at which the message under way began, in nanoseconds; 0 while
	// none is. The wheel reads it.
	begun atomic.Int64
	// allowed bounds frames of every kind: control frames and fragments cost as much as messages.
	allowed allowance
}

// errTooManyFrames is what reading ends with when a browser sends faster than it may.
var errTooManyFrames = errors.New("gateway: too many frames")

// errMessageTooBig is what reading ends with when a browser announces or sends more in one message
// than it may.
var errMessageTooBig = errors.New("gateway: message too big")

// count notes the frames that have come and says whether they are allowed.
func (w *wire) count() error {
	for ; w.in.frame.begun > 0; w.in.frame.begun-- {
		if !w.in.allowed.take(time.Since(w.opened), w.options.FramesPerSecond, w.options.FrameBurst) {
			return errTooManyFrames
		}
	}
	if w.in.frame.tooBig(uint64(w.options.MaxFrame)) { //nolint:gosec // a limit is not negative
		return errMessageTooBig
	}
	return nil
}

// await waits until something can be read, or reading would fail. It keeps its stack small.
func (w *wire) await() {
	_ = w.in.raw.Read(readable) // take meets the same error
}

// take reads what the socket has. What it read, or nothing, Read hands out.
func (w *wire) take() error {
	chunk, _ := readChunks.Get().(*readChunk)
	n, again, err := receiveNow(w.fd, chunk[:])
	switch {
	case again:
		readChunks.Put(chunk)
		// Either it was a false alarm or the deadline: that, only the connection itself tells.
		return w.in.raw.Read(func(uintptr) bool { return true })
	case err == nil && n == 0:
		err = io.EOF
		fallthrough
	case err != nil:
		readChunks.Put(chunk)
		return err
	}
	w.hear()
	if isPong(chunk[:n]) && w.in.frame.between() {
		readChunks.Put(chunk)
		w.in.frame.begun++
		return w.count()
	}
	w.in.chunk, w.in.ready = chunk, chunk[:n]
	return nil
}

// isPong reports whether b is one whole pong of a client (RFC 6455, section 5.5.3). All that it
// says is that the client is alive; that is what most of a quiet client's frames say, and going
// through coder/websocket each would leave a kilobyte of garbage.
func isPong(b []byte) bool {
	const maskBit, header = 0x80, 6
	return len(b) >= header && b[0] == pongHeader && b[1]&maskBit != 0 && b[1]&^maskBit <= 125 && len(b) == header+int(b[1]&^maskBit)
}

// idle reports whether nothing is there to be read, and no message is under way.
func (w *wire) idle() bool { return w.in.raw != nil && len(w.in.ready) == 0 && w.in.frame.between() }

// Read hands out what take has read, and nothing of a frame together with anything of the one
// before: see [parser.ended]. Between messages it does not wait: see [errIdle].
func (w *wire) Read(p []byte) (int, error) {
	in := &w.in
	if w.idle() {
		return 0, errIdle
	}
	p = p[:min(uint64(len(p)), in.frame.want())]
	if len(in.ready) > 0 {
		n := copy(p, in.ready)
		w.pass(p[:n])
		if in.ready = in.ready[n:]; len(in.ready) == 0 {
			readChunks.Put(in.chunk)
			in.chunk, in.ready = nil, nil
		}
		return n, w.count()
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.hear()
		w.pass(p[:n])
		err = cmp.Or(w.count(), err)
	}
	return n, err
}

// pass takes note of bytes of the client, and of when the message began that they leave unfinished.
// Control frames between its fragments do not make it any younger.
func (w *wire) pass(p []byte) {
	in := &w.in
	in.frame.pass(p)
	switch under := !in.frame.between(); {
	case !under && in.begun.Load() != 0:
		in.begun.Store(0)
	case under && in.begun.Load() == 0:
		in.begun.Store(max(1, int64(time.Since(w.opened))))
	}
}

// unfinished returns when the message under way began. ok is false if none is.
func (w *wire) unfinished() (since time.Time, ok bool) {
	begun := w.in.begun.Load()
	return w.opened.Add(time.Duration(begun)), begun != 0
}

// framing follows the bytes of a client's frames (RFC 6455, section 5.2) just far enough to tell
// where a message ends and how large it is on the wire. Otherwise it does not judge them.
type framing struct {
	head       [14]byte
	got        uint8  // bytes of head that have come
	left       uint64 // bytes of the payload that are still to come
	fragmented bool   // a message has begun and its last frame has not
	packed     bool   // the newest message is compressed
	begun      int    // frames whose header has come and which nobody has counted
	// payload is what the newest message has announced so far; wire is that together with its headers
	// and the control frames between its fragments.
	payload, wire uint64
}

// A message may have wireFactor times as many bytes on the wire as it may have payload, and wireSlack
// more: a client that sends tiny fragments pays for their headers, too.
const (
	wireFactor = 2
	wireSlack  = 1 << 10
	// packedShare bounds by how much compression may make a message longer: by an eighth at most, with
	// codes of 9 bits for bytes. Compressors that store what they cannot compress add far less.
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
