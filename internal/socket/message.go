package socket

import (
	"errors"
	"io"
)

// Message is what a peer sent. A text is valid UTF-8.
type Message struct {
	Binary bool
	Data   []byte
}

// Budget bounds what is held of messages, at a cost that does not depend on how many connections
// share it.
type Budget interface {
	// Take enters bytes, or returns why there is no room for them.
	Take(bytes int) error
	// Give takes back what Take has entered.
	Give(bytes int)
}

const (
	// firstRead is the buffer with which a message begins; it doubles as the message grows. What a
	// peer announces is not reserved before it comes.
	firstRead = 512
	// frameBytes is what a message holds beyond its own buffer.
	frameBytes = 64
	// inflateBytes is what is held to inflate a message while it comes: the window, the tables of a
	// compress/flate reader, and a buffer before it.
	inflateBytes = 44 << 10
)

// Held is what a message counts for in its budget after Next has returned it.
func Held(data []byte) int { return cap(data) + frameBytes }

// readAll reads a message to its end. The budget counts what is held for it, also while a peer dawdles
// over the rest. Of the message that is returned it goes on counting [Held].
func (c *Conn) readAll(r io.Reader, b Budget) (data []byte, err error) {
	frame := &c.in.frame
	announced := -1
	if !frame.packed && !frame.fragmented {
		announced = int(frame.payload) //nolint:gosec // count has seen that it is no more than MaxMessage
	}
	if frame.packed {
		if err := b.Take(inflateBytes); err != nil {
			return nil, err
		}
		defer b.Give(inflateBytes)
	}
	return readHeld(r, b, announced, whyEnded)
}

// ReadAll reads a text that did not come in frames to its end, as Next does with messages: the
// budget counts what is held of it while it comes, and goes on counting [Held] of a text that is
// returned. announced is its length, negative if that is not known.
func ReadAll(r io.Reader, b Budget, announced int) ([]byte, error) {
	return readHeld(r, b, announced, func(err error) error { return err })
}

// readHeld reads to the end. Errors of r are those that why makes of them.
func readHeld(r io.Reader, b Budget, announced int, why func(error) error) (data []byte, err error) {
	held := frameBytes
	if err := b.Take(held); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Give(held)
		}
	}()
	for {
		if len(data) == cap(data) {
			size := max(firstRead, 2*cap(data))
			if announced >= 0 { // one more, so that the end shows
				size = min(size, max(announced, len(data))+1)
			}
			if err := b.Take(size - cap(data)); err != nil {
				return nil, err
			}
			held += size - cap(data)
			grown := make([]byte, len(data), size)
			copy(grown, data)
			data = grown
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return nil, why(err)
		}
	}
}
