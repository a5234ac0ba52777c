// Package outbox holds what waits for one client, and decides what gives way when that is too much.
// It does not write, and does not know where the writer writes to: the writer claims a [Batch],
// writes its items in order, and calls [Outbox.Done].
//
// It counts everything that waits: for each client, and for all clients of an organization, which
// share a [Budget].
package outbox

import (
	"errors"
	"sync"
	"time"

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
	// one organization.
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
	owner   Owner

	mu        sync.Mutex
	queue     *Batch    // nil if it is empty
	bytes     int       // queued, held or being written
	open      bool      // something can be written
	writing   bool      // a batch is claimed
	sealed    bool      // no more is queued: the close frame is, or nothing can be written
	spent     bool      // it was full by the budget, so that its connection is about to end
	losing    bool      // something was lost since the last claim
	handovers *handover // the first of a list
	member    *member   // what idle connections do without; nil until it is needed
}

// Init sets up an outbox.
func (o *Outbox) Init(options *Options, owner Owner) { o.options, o.owner = options, owner }

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
func (o *Outbox) accept(it Item) Outcome {
	out, waits := o.tryAccept(it)
	if waits {
		o.settle()
	}
	return out
}

// tryAccept also reports whether something waits, so that the budget may be exceeded.
func (o *Outbox) tryAccept(it Item) (out Outcome, waits bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.spent || !it.gap.IsZero() && o.queue.told(it.gap) {
		o.lose(&it, LostClosing)
		return Outcome{}, false
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
	return out, o.member != nil && o.member.stand.waits
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
		o.endHandover(o.handovers.group, LostClosing)
	}
	o.unchargeAll()
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
	o.queue, o.writing, o.losing = nil, true, false
	if b.budget != nil {
		o.member.flight = b
		o.rank(o.held() == 0)
	}
	return b
}

// Charge counts a claimed batch in the organization's budget, since it has to wait for the client.
func (o *Outbox) Charge(b *Batch) {
	o.mu.Lock()
	if !o.sealed && !o.spent {
		o.needMember().flight = b
		o.charge(b)
	}
	o.mu.Unlock()
	o.settle()
}

// Done ends the writing of a claimed batch, and reports whether more waits.
func (o *Outbox) Done(b *Batch) (more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = false
	if m := o.member; m != nil {
		m.flight = nil
	}
	o.retire(b)
	o.rank(false)
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
	if o.queue == nil && !o.writing {
		quiet := make(chan struct{})
		close(quiet)
		return quiet
	}
	m := o.needMember()
	if m.quiet == nil {
		m.quiet = make(chan struct{})
	}
	return m.quiet
}

// tellQuiet closes quiet if nothing is queued and nobody writes.
func (o *Outbox) tellQuiet() {
	if m := o.member; m != nil && m.quiet != nil && o.queue == nil && !o.writing {
		close(m.quiet)
		m.quiet = nil
	}
}

// Waiting returns how many bytes are queued, held or being written, and how long the client has kept
// the oldest write waiting.
func (o *Outbox) Waiting(now time.Time) (bytes int, lag time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := o.member; m != nil && m.stand.waits {
		lag = max(now.Sub(m.budget.waitsSince(m)), 0)
	}
	return o.bytes, lag
}
