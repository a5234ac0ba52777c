// Package outbox holds what waits for one client, and decides what gives way when that is too much.
// It does not write, and does not know where the writer writes to: the writer claims a [Batch],
// writes its items in order, and calls [Outbox.Done].
//
// It counts everything that waits: for each client, and for all clients of an organization that are
// behind, which share a [Budget].
package outbox

import (
	"errors"
	"sync"

	"orgcast/internal/event"
)

// Policy says what gives way where something has no room.
type Policy uint8

// The policies.
const (
	Disconnect Policy = iota // nothing: the outbox is full, and its connection has to end
	DropOldest               // the oldest events, and the client is told of the gap
	Latest                   // events that newer ones of the same group and type have superseded
)

// Options say what an outbox may hold and what gives way. Outboxes share them, so they must not
// change.
type Options struct {
	Policy Policy
	// Shape and Encoding say how events are written, before compression. Their sizes are what
	// counts.
	Shape    event.Shape
	Encoding *event.Encoding
	// Gap makes the frame that tells of a gap in a group. Nil if the client does not know such
	// frames.
	Gap func(g event.Group) []byte
	// Bytes bounds what waits for one client; BytesPerOrganization what waits for all clients of
	// one organization that are behind.
	Bytes, BytesPerOrganization int
}

// Outcome is the result of offering something to an outbox.
type Outcome struct {
	// Flush says that something waits and nobody is writing.
	Flush bool
	// Dropped is how many events gave way, those that were offered included.
	Dropped int
	// Full says that there was no room and nothing could give way: the connection has to end.
	Full bool
}

// ErrHeld is returned for a group that is held already.
var ErrHeld = errors.New("outbox: the history of this group is being read for this connection")

// Outbox is what waits for one client. Set it up with Init. All methods are safe for concurrent
// use, and none waits. Unexported methods, except for accept, are called with mu held.
type Outbox struct {
	// Fixed after Init.
	options *Options
	budget  *Budget

	mu        sync.Mutex
	queue     *Batch // nil if it is empty
	bytes     int    // queued, held or being written
	held      int    // of bytes, what handovers hold
	open      bool   // something can be written
	writing   bool
	sealed    bool          // no more is queued: the close frame is, or nothing can be written
	handovers *handover     // the first of a list
	quiet     chan struct{} // closed, and then nil, when nothing is queued and nobody writes; nil unless asked for
}

// Init sets up an outbox for a client of the organization whose budget it is.
func (o *Outbox) Init(options *Options, budget *Budget) { o.options, o.budget = options, budget }

// Open lets what waits be claimed.
func (o *Outbox) Open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = true
}

// Offer takes events of one group.
func (o *Outbox) Offer(b *event.Burst) Outcome { return o.accept(o.options.events(b)) }

// Push takes a frame of the server's own.
func (o *Outbox) Push(b []byte) Outcome { return o.accept(frame(b)) }

// Gap takes the news that events of a group may have been lost at this point.
func (o *Outbox) Gap(g event.Group) Outcome {
	if o.options.Gap == nil {
		return Outcome{}
	}
	return o.accept(o.options.gap(g))
}

// accept puts an item last, or has it held where its group is.
func (o *Outbox) accept(it Item) (out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || !it.gap.IsZero() && o.queue.told(it.gap) {
		return Outcome{}
	}
	if o.handovers != nil {
		it = o.divert(it, &out)
	}
	if it.bytes > 0 {
		if o.handovers != nil {
			o.yieldHeld(it.bytes, &out)
		}
		o.add(&it, &out)
	}
	out.Flush = !out.Full && o.queue != nil && !o.writing
	return out
}

// Seal queues the close frame, after which the outbox takes nothing more. If drop is set, it drops
// what is queued first. It reports whether it was the first to seal.
func (o *Outbox) Seal(last []byte, drop bool) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed {
		return false
	}
	o.seal()
	if drop {
		o.dropQueue()
	}
	it := frame(last)
	it.Last = true
	o.push(&it)
	return true
}

// Abandon drops what is queued, because nothing can be written anymore.
func (o *Outbox) Abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seal()
	o.dropQueue()
	o.tellQuiet()
}

// seal takes nothing more. What is held can follow no more.
func (o *Outbox) seal() {
	o.sealed = true
	for o.handovers != nil {
		o.endHandover(o.handovers.group)
	}
}

// Claim returns what waits, to be written by the caller, who calls Done when that is over. It
// returns nil if nothing waits, another goroutine is writing, or nothing can be written yet.
func (o *Outbox) Claim() *Batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || o.queue == nil || !o.open {
		return nil
	}
	b := o.queue
	o.queue = nil
	o.writing = true
	return b
}

// Charge counts a claimed batch in the organization's budget, since it has to wait for the client.
func (o *Outbox) Charge(b *Batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.charge(b)
}

// Done ends the writing of a claimed batch, and reports whether more waits.
func (o *Outbox) Done(b *Batch) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retire(b)
	o.writing = false
	o.tellQuiet()
	return o.queue != nil
}

// Bytes returns how many bytes are queued, held or being written.
func (o *Outbox) Bytes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// Idle reports whether nothing is queued and nobody writes.
func (o *Outbox) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue == nil && !o.writing
}

// Quiet returns a channel that is closed as soon as the outbox is idle.
func (o *Outbox) Quiet() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.quiet == nil {
		o.quiet = make(chan struct{})
	}
	quiet := o.quiet
	o.tellQuiet()
	return quiet
}

// tellQuiet closes quiet if nothing is queued and nobody writes.
func (o *Outbox) tellQuiet() {
	if o.quiet != nil && o.queue == nil && !o.writing {
		close(o.quiet)
		o.quiet = nil
	}
}
