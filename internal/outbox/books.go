package outbox

import "sync/atomic"

// Budget counts what waits for all clients of one organization that are behind. The zero Budget is
// ready. It is safe for concurrent use.
type Budget struct{ used atomic.Int64 }

// Used returns how many bytes wait.
func (b *Budget) Used() int { return int(b.used.Load()) }

// needQueue returns the queue, and makes one if there is none.
func (o *Outbox) needQueue() *Batch {
	if o.queue == nil {
		o.queue = newBatch(o.options)
	}
	return o.queue
}

// push appends to the queue.
func (o *Outbox) push(it *Item) {
	b := o.needQueue()
	before := b.bytes
	b.append(it)
	o.account(b, before)
}

// account brings the books up to date after a batch, which had so many bytes before, has changed.
func (o *Outbox) account(b *Batch, before int) {
	o.bytes += b.bytes - before
	if b.held {
		o.held += b.bytes - before
	}
	if b.held || o.writing || b.charged > 0 { // the socket is behind, so this will wait
		o.charge(b)
	}
}

// charge counts a batch that waits in the budget of the organization.
func (o *Outbox) charge(b *Batch) {
	o.budget.used.Add(int64(b.bytes - b.charged))
	b.charged = b.bytes
}

// retire takes a batch off the books and back into the pool.
func (o *Outbox) retire(b *Batch) {
	o.bytes -= b.bytes
	if b.held {
		o.held -= b.bytes
	}
	o.budget.used.Add(-int64(b.charged))
	b.recycle()
}

// dropQueue forgets what is queued.
func (o *Outbox) dropQueue() {
	if o.queue != nil {
		o.retire(o.queue)
		o.queue = nil
	}
}
