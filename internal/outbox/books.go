package outbox

// itemBytes is what an item takes besides its bytes: the Item, and what a growing list of them has
// to spare.
const itemBytes = 128

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
	if b.held || o.writing || b.budget != nil { // something is being written, so this will wait
		o.charge(b)
	}
}

// charge counts a batch that waits in the budget of the organization. What an outbox that ends
// still has to write does not count: it is gone soon.
func (o *Outbox) charge(b *Batch) {
	if o.sealed || o.spent {
		return
	}
	if b.budget == nil {
		b.budget = o.needMember().budget
		for i := range b.items { // front has no events
			b.retain(&b.items[i])
		}
	}
	if cost := b.cost(); cost != b.charged {
		b.budget.used.Add(int64(cost - b.charged))
		b.charged = cost
	}
	o.rank(false)
}

// uncharge undoes charge.
func (b *Batch) uncharge() {
	if b == nil || b.budget == nil {
		return
	}
	for i := range b.items {
		b.release(&b.items[i])
	}
	b.budget.used.Add(-int64(b.charged))
	b.budget, b.charged = nil, 0
}

// unchargeAll takes everything that waits off the budget.
func (o *Outbox) unchargeAll() {
	if m := o.member; m != nil && m.flight != nil {
		m.flight.uncharge()
		m.flight = nil
	}
	o.queue.uncharge()
	for h := o.handovers; h != nil; h = h.next {
		h.held.uncharge()
	}
	o.rank(false)
}

// retire takes a batch off the books and back into the pool.
func (o *Outbox) retire(b *Batch) {
	o.bytes -= b.bytes
	b.uncharge()
	b.recycle()
}

// dropQueue forgets what is queued.
func (o *Outbox) dropQueue() {
	if o.queue != nil {
		o.loseAll(o.queue, LostClosing)
		o.retire(o.queue)
		o.queue = nil
		o.rank(false)
	}
}

// needMember returns the member, and makes one if there is none.
func (o *Outbox) needMember() *member {
	if o.member == nil {
		m := &member{box: o, budget: o.owner.Budget()}
		m.age.of, m.rank.of = m, m
		o.member = m
	}
	return o.member
}

// held returns how many bytes handovers hold.
func (o *Outbox) held() (bytes int) {
	for h := o.handovers; h != nil; h = h.next {
		if h.held != nil {
			bytes += h.held.bytes
		}
	}
	return bytes
}

// rank tells the budget how much waits, if that makes a difference there. begun says that what
// waits begins to only now, because another write does.
func (o *Outbox) rank(begun bool) {
	m := o.member
	if m == nil { // nothing has waited yet
		return
	}
	size, loose := 0, false
	if m.flight != nil {
		size += m.flight.bytes
	}
	if b := o.queue; b != nil && b.budget != nil {
		size += b.bytes
		loose = b.shared > 0 || o.options.Policy == Disconnect
	}
	if held := o.held(); held > 0 && !o.sealed && !o.spent {
		size += held
		loose = true
	}
	now := standing{waits: size > 0, loose: loose, class: classOf(size)}
	if begun = begun && now.waits; begun || now != m.stand {
		m.budget.put(m, now, begun)
	}
}

// settle lets somebody give way if too much waits for the clients of the organization. Its caller
// holds no lock.
func (o *Outbox) settle() {
	b, limit := o.owner.Budget(), o.options.BytesPerOrganization
	if b.Used() > limit {
		b.settle(limit)
	}
}
