package socket

import "sync"

// greetingBytes has room for the answer to a handshake and for the first frame.
const greetingBytes = 512

// greeting is room for an answer. It goes back to the pool when everything in it has left, and else to
// the collector.
type greeting [greetingBytes]byte

var greetings = sync.Pool{New: func() any { return new(greeting) }} //nolint:gochecknoglobals // a pool is shared by nature

// recycleGreeting reuses the room of an answer, unless the answer was too long for it.
func recycleGreeting(answer []byte) {
	if cap(answer) == greetingBytes {
		greetings.Put((*greeting)(answer[:greetingBytes]))
	}
}
