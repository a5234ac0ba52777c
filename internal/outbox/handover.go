package outbox

import (
	"slices"

	"orgcast/internal/event"
)

const (
	// releasedAtOnce is how many held items are queued before fan-out has a chance to look in.
	releasedAtOnce = 256
	// missedBytes bounds the events of a history that are queued as one item.
	missedBytes = 64 << 10
)

// handover is where live events of a group begin for a connection that was given its history. The
// group's events are held from before the history is read until the consumer has sent what it
// makes of it. They then follow, without those that the history had. Since the history can be
// ahead of the events on their way here, it takes until one behind it comes to be sure that all
// others have passed.
type handover struct {
	next  *handover // another group's; there are few
	group event.Group
	after event.Position // the newest of the history
	held  *Batch         // nil after the release
	// What had to be dropped of held: whether there were transient events, and the newest recorded
	// one.
	lost      bool
	lostAfter event.Position
}

// Hold begins to hold the events of a group. They do until [Outbox.Release].
func (o *Outbox) Hold(g event.Group) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed {
		return nil
	}
	h := o.handoverOf(g)
	switch {
	case h == nil:
		h = &handover{group: g, next: o.handovers}
		o.handovers = h
	case h.held != nil:
		return ErrHeld
	}
	h.held = newBatch(o.options)
	h.held.held = true
	return nil
}

// Forget lets a group be as any other, and drops what is held of it.
func (o *Outbox) Forget(g event.Group) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endHandover(g, LostLeft)
}

// Release lets what is held of a group follow what was pushed, without what the history had, whose
// newest position is given.
func (o *Outbox) Release(g event.Group, newest event.Position) Outcome {
	out := o.release(g, newest)
	o.settle()
	return out
}

func (o *Outbox) release(g event.Group, newest event.Position) (out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.handoverOf(g)
	if h == nil || h.held == nil { // left, or ended
		return Outcome{}
	}
	if newest.Compare(h.after) > 0 {
		h.after = newest
	}
	for n := 1; !out.Full; n++ {
		o.tellLost(h, &out)
		if len(h.held.items) == 0 || out.Full {
			break
		}
		it := o.nextHeld(h)
		if it = o.unseen(h, it); it.bytes > 0 {
			o.add(&it, &out)
		}
		if n%releasedAtOnce > 0 {
			continue
		}
		o.mu.Unlock() // fan-out may be waiting for it; what it brings is held behind the rest
		o.mu.Lock()
		if o.handoverOf(g) != h {
			return out
		}
	}
	o.loseAll(h.held, LostFull)
	o.retire(h.held)
	h.held = nil
	o.rank(!o.writing && o.held() == 0)
	if h.after.IsZero() { // nothing was recorded, so nothing can come twice
		o.endHandover(g, LostLeft)
	}
	out.Flush = !out.Full && o.queue != nil && !o.writing
	return out
}

// tellLost queues the news of what was dropped of the held events, unless the history had all of
// it.
func (o *Outbox) tellLost(h *handover, out *Outcome) {
	if (h.lost || h.lostAfter.Compare(h.after) > 0) && o.options.Gap != nil { // also while others had their chance
		news := o.options.gap(h.group)
		o.add(&news, out)
	}
	h.lost, h.lostAfter = false, event.Position{}
}

// nextHeld removes the first of what is held.
func (o *Outbox) nextHeld(h *handover) Item {
	before := h.held.bytes
	it := h.held.removeFirst()
	o.account(h.held, before)
	if it.left != nil {
		o.options.whole(&it)
	}
	return it
}

// handoverOf returns the handover of a group, nil if it has none.
func (o *Outbox) handoverOf(g event.Group) *handover {
	h := o.handovers
	for h != nil && h.group != g {
		h = h.next
	}
	return h
}

// endHandover ends a handover, and drops what is held.
func (o *Outbox) endHandover(g event.Group, why Loss) {
	at := &o.handovers
	for *at != nil && (*at).group != g {
		at = &(*at).next
	}
	h := *at
	if h == nil {
		return
	}
	*at = h.next
	if h.held != nil {
		o.loseAll(h.held, why)
		o.retire(h.held)
		h.held = nil
		o.rank(false)
	}
}

// divert has an item held if its group is, or takes from it what the history had. It returns what
// is left to queue.
func (o *Outbox) divert(it Item, out *Outcome) (left Item) {
	g := it.gap
	if it.Burst != nil {
		g = it.Burst.Group()
	}
	h := o.handoverOf(g)
	switch {
	case h == nil:
		return it
	case h.held != nil:
		o.hold(h, it, out)
		return Item{}
	}
	left = o.unseen(h, it)
	if it.Burst != nil && left.Burst != nil { // they come in order, so the rest lies behind too
		for _, e := range it.Burst.Events() {
			if e.Position().Compare(h.after) > 0 {
				o.endHandover(g, LostLeft)
				break
			}
		}
	}
	return left
}

// unseen takes from an item the events that the history had.
func (o *Outbox) unseen(h *handover, it Item) Item {
	if it.Burst == nil || h.after.IsZero() {
		return it
	}
	events := it.Burst.Events()
	seen := func(e *event.Event) bool { return !e.Position().IsZero() && e.Position().Compare(h.after) <= 0 }
	if !slices.ContainsFunc(events, seen) {
		return it
	}
	o.loseEvents(slices.DeleteFunc(slices.Clone(events), func(e *event.Event) bool { return !seen(e) }), LostHistory)
	rest := slices.DeleteFunc(slices.Clone(events), seen)
	if len(rest) == 0 {
		return Item{}
	}
	b, _ := event.NewBurst(rest, it.Burst.Size()) // all of them: together they are smaller
	return o.options.events(b)
}

// hold adds an item to what is held, and makes room for it as the policy says.
func (o *Outbox) hold(h *handover, it Item, out *Outcome) {
	if o.options.Policy == Latest {
		o.keepLatest(h.held, &it, out)
		return
	}
	before := h.held.bytes
	h.held.append(&it)
	o.account(h.held, before)
	if o.options.Policy == Disconnect {
		out.Full = o.excess(0) > 0
		return
	}
	o.dropOldestHeld(h, 0, out)
}

// yieldHeld lets what is held give way to so many bytes that are to be queued, such as the state
// that a consumer makes of a history.
func (o *Outbox) yieldHeld(size int, out *Outcome) {
	for h := o.handovers; h != nil; h = h.next {
		switch {
		case h.held == nil:
		case o.options.Policy == DropOldest:
			o.dropOldestHeld(h, size, out)
		case o.options.Policy == Latest:
			before := h.held.bytes
			_, dropped := o.dropStale(h.held, o.excess(size))
			o.account(h.held, before)
			out.Dropped += dropped
		}
	}
}

// dropOldestHeld drops the oldest of what is held, until there is room for size bytes more.
func (o *Outbox) dropOldestHeld(h *handover, size int, out *Outcome) {
	for o.excess(size) > 0 && len(h.held.items) > 0 {
		o.dropFirstHeld(h, out)
	}
}

// dropFirstHeld drops the first of what is held, and returns its size.
func (o *Outbox) dropFirstHeld(h *handover, out *Outcome) (size int) {
	old := o.nextHeld(h)
	if old.Burst == nil { // the news of a gap
		h.lost = true
		return old.bytes
	}
	h.lose(old.Burst.Events())
	o.lose(&old, LostOldest)
	out.Dropped += len(old.Burst.Events())
	return old.bytes
}

// lose notes events that were held and dropped. What the history has of them is not lost after all.
func (h *handover) lose(events []*event.Event) {
	for _, e := range events {
		h.lost = h.lost || e.Position().IsZero()
		if e.Position().Compare(h.lostAfter) > 0 {
			h.lostAfter = e.Position()
		}
	}
}

// Spare returns how many bytes of missed events there is room for: half of what may wait, so that
// the client is not ended for what it has asked for, and asks for again.
func (o *Outbox) Spare() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(o.options.Bytes/2-o.bytes, 0)
}

// Fitting returns the newest of the events for which there is room.
func (o *Outbox) Fitting(events []*event.Event) []*event.Event {
	room := o.Spare()
	first := len(events)
	for first > 0 {
		if room -= o.options.sizeOf(events[first-1]); room < 0 {
			break
		}
		first--
	}
	return events[first:]
}

// Replay queues missed events past those that are held, behind the frame that tells of a gap if
// there is one.
func (o *Outbox) Replay(g event.Group, gap []byte, events []*event.Event) Outcome {
	var items []Item
	if gap != nil {
		it := frame(gap)
		it.gap = g
		items = append(items, it)
	}
	for len(events) > 0 {
		var b *event.Burst
		b, events = event.NewBurst(events, missedBytes)
		items = append(items, o.options.events(b))
	}
	out := o.addAll(items)
	o.settle()
	return out
}

func (o *Outbox) addAll(items []Item) (out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range items {
		if o.add(&items[i], &out); out.Full {
			return out
		}
	}
	out.Flush = o.queue != nil && !o.writing
	return out
}
