package socket

import "net/http"

// WholeFrame returns the frame with which b begins if it needs no parser.
func WholeFrame(b []byte) (opcode byte, payload []byte, size int, ok bool) {
	f, ok := wholeFrameOf(b)
	if !ok {
		return 0, nil, 0, false
	}
	return f.head & opMask, f.appendPayload(nil), f.size, true
}

// FrameEnd returns the end of the frame that contains the byte before n.
var FrameEnd = frameEnd

// OnlyHead reports whether an HTTP parser cannot end before the end of b.
var OnlyHead = onlyHead

// ReadMore reports whether net/http has read something after the head of a request.
func ReadMore(r *http.Request) bool {
	l := lentBy(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == lentMore
}
