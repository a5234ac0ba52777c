package outbox

import "orgcast/internal/event"

// Patience is how long a write is not held against its client.
const Patience = patience

// ItemBytes is what an entry of a queue takes.
const ItemBytes = itemBytes

// Recount adds up what waits in outboxes of one budget, by looking at all of it.
func Recount(boxes []*Outbox) (bytes int) {
	forms := make(map[*event.Form]bool)
	add := func(b *Batch) {
		if b == nil || b.budget == nil {
			return
		}
		for i := range b.items {
			if it := &b.items[i]; it.form != nil && !forms[it.form] {
				forms[it.form] = true
				bytes += len(it.form.Bytes())
			}
		}
		own := 0
		for _, items := range [][]Item{b.front.items, b.items} {
			for i := range items {
				if items[i].Burst == nil {
					own += items[i].bytes
				}
				own += itemBytes
			}
		}
		bytes += own
	}
	for _, o := range boxes {
		if o.member != nil {
			add(o.member.flight)
		}
		add(o.queue)
		for h := o.handovers; h != nil; h = h.next {
			add(h.held)
		}
	}
	return bytes
}

// CanGiveWay reports whether something in an outbox could, were it its turn: it has a write that is
// older than patience, or something is queued or held.
func (o *Outbox) CanGiveWay() bool { return o.member != nil && o.member.rank.in != nil }
