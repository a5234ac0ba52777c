package outbox

import "orgcast/internal/event"

// excess returns by how many bytes too much would wait if a batch, the queue or a held one, had
// size bytes more. It is the one rule for what is full: one connection may have Bytes and, if what
// comes has to wait, no more than the others have left of the organization's budget. They change
// that meanwhile, so it is asked once for each decision.
//
// What is being written cannot give way, so it counts only where nothing does.
func (o *Outbox) excess(b *Batch, size int) int {
	waiting := o.bytes
	if o.options.Policy != Disconnect {
		waiting = o.held
		if o.queue != nil {
			waiting += o.queue.bytes
		}
	}
	over := waiting + size - o.options.Bytes
	if o.writing || b != nil && b.held {
		over = max(over, o.budget.Used()+size-o.options.BytesPerOrganization)
	}
	return over
}

// add puts an item last in the queue. Where it has no room, the policy says what gives way. What
// would stand behind the close frame it drops.
func (o *Outbox) add(it *Item, out *Outcome) {
	switch {
	case o.sealed:
	case o.excess(o.queue, it.bytes) <= 0:
		o.push(it)
	case o.options.Policy == DropOldest:
		o.dropOldest(it, out)
	case o.options.Policy == Latest:
		o.keepLatest(o.needQueue(), it, out)
	default:
		out.Full = true
	}
}

// dropOldest takes events from the front of the queue until the item has room, and puts the news of
// the gap in the place of the last: a state that was sent before that stays before the news. If
// nothing is left to take, the item itself goes, unless it is a frame of the server's own: then,
// with a queue full of such frames, the outbox is full.
//
// What it passes it moves to the front of the batch, so that it looks at everything once.
func (o *Outbox) dropOldest(it *Item, out *Outcome) {
	b := o.needQueue()
	before := b.bytes
	room := b.bytes - o.excess(b, 0)
	for len(b.items) > 0 && b.bytes+it.bytes > room {
		switch old := b.removeFirst(); {
		case old.own():
			b.front.keep(old)
			b.bytes += old.bytes
		case old.Burst != nil:
			out.Dropped += len(old.Burst.Events())
			b.tell(old.Burst.Group())
		default: // older news of a gap merges with ours
			b.tell(old.gap)
		}
	}
	switch {
	case b.bytes+it.bytes > room && it.Burst != nil: // only frames of the server's own are left before it
		out.Dropped += len(it.Burst.Events())
		b.tell(it.Burst.Group())
	case b.bytes+it.bytes > o.options.Bytes:
		out.Full = true
	default:
		b.append(it)
	}
	o.account(b, before)
	if b.bytes == 0 {
		o.dropQueue()
	}
}

// tell puts the news of a gap at the end of what is passed, unless it stands behind everything
// there already.
func (b *Batch) tell(g event.Group) {
	f := &b.front
	if b.options.Gap == nil || f.told(g) {
		return
	}
	news := b.options.gap(g)
	b.bytes += news.bytes - f.withdraw(g)
	f.tell(news)
}

// keepLatest puts an item last in a batch that is full, and takes from it events that newer ones of
// the same group and type have superseded, until there is room.
func (o *Outbox) keepLatest(b *Batch, it *Item, out *Outcome) {
	need := o.excess(b, it.bytes)
	before := b.bytes
	b.append(it)
	freed, dropped := b.dropStale(need)
	o.account(b, before)
	out.Dropped += dropped
	out.Full = freed < need
}
