package socket

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
