package gateway

import (
	"errors"
	"io"

	"orgcast/internal/event"
)

const (
	// firstRead is the buffer with which a message begins; it doubles as the message grows. What a
	// browser announces is not reserved before it comes.
	firstRead = 512
	// frameBytes is what a message holds beyond its own buffer.
	frameBytes = 64
	// inflateBytes is what is held to inflate a message while it comes: the window, the tables of a
	// compress/flate reader, and a buffer before it.
	inflateBytes = 44 << 10
)

// errIntakeFull ends a connection whose frame has no room in what its organization may have taken in.
var errIntakeFull = errors.New("gateway: the organization's receive budget is used up")

// intakeOf is what a frame counts for from its last byte until its consumer has handled it.
func intakeOf(f event.Frame) int { return cap(f.Data) + frameBytes }

// takeIn enters bytes that are held for what browsers of the organization sent, if there is room. It
// costs the same however many connections share the budget.
func (c *conn) takeIn(bytes int) bool {
	if c.budget.received.Add(int64(bytes)) <= int64(c.server.options.ReceiveBytesPerOrganization) {
		return true
	}
	c.letGo(bytes)
	return false
}

// letGo takes back what takeIn has entered.
func (c *conn) letGo(bytes int) { c.budget.received.Add(-int64(bytes)) }

// readAll reads a message to its end. The budget of the organization counts what is held for it, also
// while a browser dawdles over the rest. Of the message that is returned it goes on counting [intakeOf].
func (c *conn) readAll(r io.Reader) (data []byte, err error) {
	frame := &c.wire.in.frame
	held := frameBytes
	if frame.packed {
		held += inflateBytes
	}
	defer func() {
		if err == nil {
			held -= cap(data) + frameBytes
		}
		c.letGo(held)
	}()
	if !c.takeIn(held) {
		held = 0
		return nil, c.intakeFull()
	}
	for {
		if len(data) == cap(data) {
			size := max(firstRead, 2*cap(data))
			if !frame.packed && !frame.fragmented { // one more, so that the end shows
				size = min(size, int(frame.payload)+1) //nolint:gosec // count has seen that it is no more than MaxFrame
			}
			if !c.takeIn(size - cap(data)) {
				return nil, c.intakeFull()
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
			return nil, err
		}
	}
}

// intakeFull counts a connection that ends because its frame has no room.
func (c *conn) intakeFull() error {
	c.server.metrics.intakeFull.Add(1)
	return errIntakeFull
}

// receivedBytes adds up what is held of what browsers sent, when metrics are asked for.
func (l *limits) receivedBytes() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total int64
	for _, b := range l.budgets {
		total += b.received.Load()
	}
	return float64(total)
}
