package outbox

import "orgcast/internal/event"

// excess returns by how many bytes too much would wait for the client if there were size bytes
// more. What all clients of the organization may have together is the [Budget]'s concern.
//
// What is being written cannot give way, so it counts only where nothing does.
func (o *Outbox) excess(size int) int {
	waiting := o.bytes
	if o.options.Policy != Disconnect {
		waiting = o.held()
		if o.queue != nil {
			waiting += o.queue.bytes
		}
	}
	return waiting + size - o.options.Bytes
}

// add puts an item last in the queue. Where it has no room, the policy says what gives way. What
// would stand behind the close frame it drops.
func (o *Outbox) add(it *Item, out *Outcome) {
	switch {
	case o.sealed, o.spent:
		o.lose(it, LostClosing)
	case o.excess(it.bytes) <= 0:
		o.push(it)
	case o.options.Policy == DropOldest:
		o.dropOldest(it, out)
	case o.options.Policy == Latest:
		o.keepLatest(o.needQueue(), it, out)
	default:
		o.lose(it, LostFull)
		out.Full = true
	}
}

// dropOldest takes events from the front of the queue until the item has room. If nothing is left
// to take, the item itself goes, unless it is a frame of the server's own: then, with a queue full
// of such frames, the outbox is full.
func (o *Outbox) dropOldest(it *Item, out *Outcome) {
	b := o.needQueue()
	before := b.bytes
	room := b.bytes - o.excess(0)
	o.shed(b, room-it.bytes, out)
	switch {
	case b.bytes+it.bytes > room && it.Burst != nil: // only frames of the server's own are left before it
		out.Dropped += len(it.Burst.Events())
		o.lose(it, LostOldest)
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

// shed takes events from the front until no more than most bytes are left, and puts the news of the
// gap in the place of the last: a state that was sent before that stays before the news.
//
// What it passes it moves to the front of the batch, so that it looks at everything once.
func (o *Outbox) shed(b *Batch, most int, out *Outcome) {
	for len(b.items) > 0 && b.bytes > most {
		switch old := b.removeFirst(); {
		case old.own():
			b.front.keep(old)
			b.bytes += old.bytes
		case old.Burst != nil:
			out.Dropped += len(old.Burst.Events())
			o.lose(&old, LostOldest)
			b.tell(old.Burst.Group())
		default: // older news of a gap merges with ours
			b.tell(old.gap)
		}
	}
}

// giveWay makes room in the budget, which is exceeded and has chosen this outbox, as far as the
// policy allows. If nothing can give way, the outbox is full. It does nothing if things have changed
// since it was chosen.
func (o *Outbox) giveWay(t turn, limit int) (out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := t.of.budget
	need := b.Used() - limit
	if need <= 0 || !b.holds(t) {
		return Outcome{}
	}
	freed := 0
	switch o.options.Policy {
	case DropOldest:
		freed = o.shedOldest(need, &out)
	case Latest:
		freed = o.shedStale(need, &out)
	default:
	}
	if freed == 0 {
		out.Full, o.spent = true, true
		o.unchargeAll()
	}
	return out
}

// shedOldest drops the oldest of what is held and then of the queue, until so many bytes are free
// or nothing is left.
func (o *Outbox) shedOldest(need int, out *Outcome) (freed int) {
	for h := o.handovers; h != nil; h = h.next {
		for h.held != nil && len(h.held.items) > 0 && freed < need {
			freed += o.dropFirstHeld(h, out)
		}
	}
	b := o.queue
	if b == nil || b.budget == nil || b.shared == 0 || freed >= need {
		return freed
	}
	before, shared := b.bytes, b.shared
	o.shed(b, before-(need-freed), out)
	freed += max(shared-b.shared, before-b.bytes) // the latter where old news of a gap made the room
	o.account(b, before)
	if b.bytes == 0 {
		o.dropQueue()
	}
	return freed
}

// shedStale drops what newer events have superseded, until so many bytes are free or nothing is
// left.
func (o *Outbox) shedStale(need int, out *Outcome) (freed int) {
	shed := func(b *Batch) {
		if b == nil || b.budget == nil || freed >= need {
			return
		}
		before := b.bytes
		size, dropped := o.dropStale(b, need-freed)
		o.account(b, before)
		freed += size
		out.Dropped += dropped
	}
	for h := o.handovers; h != nil; h = h.next {
		shed(h.held)
	}
	shed(o.queue)
	return freed
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
	need := o.excess(it.bytes)
	before := b.bytes
	b.append(it)
	freed, dropped := o.dropStale(b, need)
	o.account(b, before)
	out.Dropped += dropped
	out.Full = freed < need
}
