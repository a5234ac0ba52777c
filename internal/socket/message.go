package socket

import (
	"errors"
	"io"
)

// Message is a message from a peer. Text messages are valid UTF-8.
type Message struct {
	Binary bool
	Data   []byte
}

// Budget bounds the memory for messages. Its cost does not depend on how many connections share it.
type Budget interface {
	// Take reserves bytes, or returns an error if there is no room for them.
	Take(bytes int) error
	// Give returns bytes that Take has reserved.
	Give(bytes int)
}

const (
	// firstRead is the size of a message's first buffer, which doubles as the message grows. Memory
	// is not reserved for the length that a peer announces.
	firstRead = 512
	// frameBytes is the memory that a message takes in addition to its buffer.
	frameBytes = 64
	// inflateBytes is the memory for inflating one message: the window and tables of a
	// compress/flate reader, and its input buffer.
	inflateBytes = 44 << 10
	// recordBytes is the memory for a record of TLS in the middle of a message that does not come at
	// once.
	recordBytes = 17 << 10
)

// Held returns how many bytes a message takes of its budget after Next has returned it.
func Held(data []byte) int { return cap(data) + frameBytes }

// readAll reads a message to its end. The budget counts its memory while it arrives, however
// slowly, and goes on counting [Held] bytes for the returned message.
func (c *Conn) readAll(r io.Reader, b Budget) (data []byte, err error) {
	frame := &c.in.frame
	announced := -1
	if !frame.packed && !frame.fragmented {
		announced = int(frame.payload) //nolint:gosec // count has checked that it is at most MaxMessage
	}
	if frame.packed {
		if err := b.Take(inflateBytes); err != nil {
			return nil, err
		}
		defer b.Give(inflateBytes)
	}
	if c.carrier != nil {
		if err := b.Take(recordBytes); err != nil {
			return nil, err
		}
		defer b.Give(recordBytes)
	}
	return readHeld(r, b, announced, whyEnded)
}

// ReadAll reads a text that did not come in frames, such as the body of a request, to its end. As
// with Next, the budget counts its memory while it arrives, and goes on counting [Held] bytes for
// the returned text. announced is its length, negative if unknown.
func ReadAll(r io.Reader, b Budget, announced int) ([]byte, error) {
	return readHeld(r, b, announced, func(err error) error { return err })
}

// readHeld implements ReadAll. It passes errors of r through why.
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
			if announced >= 0 { // one more byte, so that Read can return io.EOF
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
