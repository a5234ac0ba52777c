package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// inbox holds messages from the browser until the consumer takes them, one after the other. One
// goroutine puts messages in, and while there are some, one takes them out. The budget of the
// organization counts each message until the consumer has handled it.
type inbox struct {
	client *client

	mu       sync.Mutex
	frames   []event.RawMessage
	bytes    int // in frames
	handling bool
	closed   bool          // no more messages are handed out
	overdue  bool          // the time for the remaining messages is over
	handled  chan struct{} // closed, and then nil, when nothing is left to handle; made on demand

	talked atomic.Int64 // the age at which the last message came, or the browser could first send one
}

// put takes a message in. begin says that the caller has to start a goroutine that handles
// messages. If the inbox is full, put does not wait for the consumer, because pongs and the peer's
// close frame would have to wait, too: ok is then false, and the browser is told that it sends too
// fast.
func (in *inbox) put(f event.RawMessage, age time.Duration) (begin, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		in.letGo(f)
		return false, true
	}
	o := &in.client.host.options
	if len(in.frames) >= o.FrameBurst || in.bytes+len(f.Data) > max(o.QueueBytes, int(o.MaxFrame)) {
		in.letGo(f)
		return false, false
	}
	in.bytes += len(f.Data)
	in.talked.Store(int64(age))
	in.frames = append(in.frames, f)
	begin = !in.handling
	in.handling = true
	return begin, true
}

// next returns the next message to handle. If ok is false, none is left, and the handling goroutine
// is done.
func (in *inbox) next() (f event.RawMessage, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || len(in.frames) == 0 {
		in.handling = false
		in.drop()
		in.tellHandled()
		return event.RawMessage{}, false
	}
	f = in.frames[0]
	in.frames[0] = event.RawMessage{}
	in.frames = in.frames[1:]
	in.bytes -= len(f.Data)
	return f, true
}

// close stops handing out messages.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
}

// expire notes that the remaining messages were not handled in time.
func (in *inbox) expire() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.overdue = true
}

// idle reports whether nothing is left to handle.
func (in *inbox) idle() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.handling
}

// allHandled returns a channel that is closed as soon as nothing is left to handle.
func (in *inbox) allHandled() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.handled == nil {
		in.handled = make(chan struct{})
	}
	handled := in.handled
	in.tellHandled()
	return handled
}

// tellHandled closes handled if nothing is left to handle. Its caller holds mu.
func (in *inbox) tellHandled() {
	if in.handled != nil && !in.handling {
		close(in.handled)
		in.handled = nil
	}
}

// drop drops the messages that will not be handled. Its caller holds mu.
func (in *inbox) drop() {
	for _, f := range in.frames {
		in.letGo(f)
	}
	in.client.droppedFrames(len(in.frames), in.overdue)
	in.frames, in.bytes = nil, 0
}

// letGo gives back to the budget what a message counts for until the consumer has handled it.
func (in *inbox) letGo(f event.RawMessage) { intake{in.client}.Give(socket.Held(f.Data)) }

// errIntakeFull ends a connection whose frame has no room in its organization's receive budget.
var errIntakeFull = errors.New("gateway: the organization's receive budget is used up")

// intake is the organization's receive budget, for the [Transport] of a connection.
type intake struct{ client *client }

// Take implements socket.Budget.
func (in intake) Take(bytes int) error {
	c := in.client
	if c.budget.received.Add(int64(bytes)) <= int64(c.host.options.ReceiveBytesPerOrganization) {
		return nil
	}
	in.Give(bytes)
	c.host.metrics.intakeFull.Add(1)
	return errIntakeFull
}

// Give implements socket.Budget.
func (in intake) Give(bytes int) { in.client.budget.received.Add(-int64(bytes)) }
