package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// inbox holds what the browser sent until its consumer takes it, one message after the other. One
// goroutine puts messages in, and one, while there are some, takes them out. The budget of the
// organization counts each until the consumer has handled it.
type inbox struct {
	client *client

	mu       sync.Mutex
	frames   []event.RawMessage
	bytes    int // in frames
	handling bool
	closed   bool          // nothing is handed out any more
	overdue  bool          // the time for what is left is over
	handled  chan struct{} // closed, and then nil, when nothing is left to handle; nil unless asked for

	talked atomic.Int64 // the age at which the last message came, or the browser could first send one
}

// put takes a message in, and reports whether somebody has to begin to handle what is here. A consumer
// that falls behind by the whole inbox is not waited for, since pongs and the peer's close frame
// would wait too: then ok is false, and the browser is told that it sends too fast.
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

// next returns the next message to handle. If ok is false none is left, and who handles them is done.
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

// close lets nothing be handed out any more.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
}

// expire notes that what is not handled by now was not handled in time.
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

// tellHandled tells those who wait for it that nothing is left to handle, if that is so. Its caller
// holds mu.
func (in *inbox) tellHandled() {
	if in.handled != nil && !in.handling {
		close(in.handled)
		in.handled = nil
	}
}

// drop forgets the messages that nobody handles any more. Its caller holds mu.
func (in *inbox) drop() {
	for _, f := range in.frames {
		in.letGo(f)
	}
	in.client.droppedFrames(len(in.frames), in.overdue)
	in.frames, in.bytes = nil, 0
}

// letGo gives back what a message counts for from its last byte until its consumer has handled it.
func (in *inbox) letGo(f event.RawMessage) { intake{in.client}.Give(socket.Held(f.Data)) }

// errIntakeFull ends a connection whose frame has no room in what its organization may have taken in.
var errIntakeFull = errors.New("gateway: the organization's receive budget is used up")

// intake is the budget of the organization, as the [Transport] of a connection uses it.
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
