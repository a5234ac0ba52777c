package outbox

import (
	"slices"
	"sync"
	"time"

	"orgcast/internal/event"
)

// pooledItems bounds the room for items that is kept for reuse after a burst.
const pooledItems = 64

// Item is one thing to write: events, or a frame of the server's own. The zero Item is nothing.
type Item struct {
	Burst *event.Burst
	Frame []byte
	Last  bool // Frame is the close frame

	gap   event.Group // that Frame tells of, if any
	bytes int         // what it counts for: its bytes before compression
	// form is what the organization's budget counts for the item, nil if it counts nothing. The
	// writer of the item must not touch it.
	form *event.Form
	// left holds the events of Burst if some gave way, with nil in their places.
	left []*event.Event
}

// Empty reports whether an item has given way entirely.
func (it *Item) Empty() bool { return it.bytes == 0 }

// Gap returns the group of which the frame tells that events may have been lost, or the zero Group.
func (it *Item) Gap() event.Group { return it.gap }

// own reports whether an item is a frame of the server's own, other than one that tells of a gap.
func (it *Item) own() bool { return it.Burst == nil && it.Frame != nil && it.gap.IsZero() }

// Batch is a run of items. Idle connections have none; they come from a pool.
type Batch struct {
	options *Options
	held    bool // by a handover, so that it has to wait whatever the socket takes
	// front holds what is left of earlier items, and is sent before items; see dropOldest.
	front   front
	items   []Item
	bytes   int
	shared  int     // of bytes, those of events
	budget  *Budget // that counts the batch, or nil
	charged int     // what it counts, besides the forms of events
	events  int
	last    bool // the close frame is the last item
	// gaps holds the groups whose last item tells of a gap; nil if there are none.
	gaps map[event.Group]struct{}
	// latest knows what has been superseded; nil if that is not needed.
	latest *latest
}

var batches = sync.Pool{New: func() any { return new(Batch) }} //nolint:gochecknoglobals // a pool is shared by nature

func newBatch(o *Options) *Batch {
	b, _ := batches.Get().(*Batch)
	b.options = o
	return b
}

// Len returns how many items there are, empty ones among them.
func (b *Batch) Len() int { return len(b.front.items) + len(b.items) }

// Item returns the item at i. It belongs to the goroutine that has claimed the batch.
func (b *Batch) Item(i int) *Item {
	if i < len(b.front.items) {
		return &b.front.items[i]
	}
	it := &b.items[i-len(b.front.items)]
	if it.left != nil {
		b.options.whole(it)
	}
	return it
}

// Bytes returns how many bytes the items have before compression.
func (b *Batch) Bytes() int { return b.bytes }

// Events returns how many events there are.
func (b *Batch) Events() int { return b.events }

// Last reports whether the close frame is the last item.
func (b *Batch) Last() bool { return b.last }

// Oldest returns when the first event reached this node, the zero Time without events.
func (b *Batch) Oldest() time.Time {
	for i := range b.items { // front has none
		if burst := b.items[i].Burst; burst != nil {
			return burst.Events()[0].Received()
		}
	}
	return time.Time{}
}

// append adds an item. If only the newest events are to stay, it notes which these are before there
// are so many items that a search takes time.
func (b *Batch) append(it *Item) {
	b.items = append(b.items, *it)
	b.bytes += it.bytes
	b.last = b.last || it.Last
	if it.Burst != nil {
		b.shared += it.bytes
		b.events += len(it.Burst.Events())
		if len(b.gaps) > 0 {
			delete(b.gaps, it.Burst.Group())
		}
		if b.budget != nil {
			b.retain(&b.items[len(b.items)-1])
		}
	}
	if !it.gap.IsZero() {
		if b.gaps == nil {
			b.gaps = make(map[event.Group]struct{})
		}
		b.gaps[it.gap] = struct{}{}
	}
	switch {
	case b.options.Policy != Latest:
	case b.latest != nil:
		b.note(len(b.items) - 1)
	case len(b.items) > indexedFrom:
		b.index()
	}
}

// removeFirst removes the first of items.
func (b *Batch) removeFirst() Item {
	it := b.items[0]
	b.items[0] = Item{}
	b.items = b.items[1:]
	b.bytes -= it.bytes
	b.release(&it)
	if it.Burst != nil {
		b.shared -= it.bytes
		b.events -= len(it.Burst.Events())
	}
	if l := b.latest; l != nil {
		l.first++
		if it.bytes == 0 {
			l.holes--
		}
	}
	return it
}

// cost returns what a batch takes besides the forms of events.
func (b *Batch) cost() int { return b.bytes - b.shared + itemBytes*b.Len() }

// retain has the budget count the events of an item, unless it does already for others.
func (b *Batch) retain(it *Item) {
	if it.Burst == nil {
		return
	}
	it.form = it.Burst.Form(b.options.Shape, b.options.Encoding)
	if it.form.Retain() {
		b.budget.used.Add(int64(len(it.form.Bytes())))
	}
}

// release undoes retain.
func (b *Batch) release(it *Item) {
	if it.form != nil && it.form.Release() {
		b.budget.used.Add(-int64(len(it.form.Bytes())))
	}
	it.form = nil
}

// told reports whether the last thing that waits for a group is the news of a gap.
func (b *Batch) told(g event.Group) bool {
	if b == nil {
		return false
	}
	_, ok := b.gaps[g]
	return ok
}

// recycle puts a batch that is no longer needed back into the pool.
func (b *Batch) recycle() {
	if cap(b.items) > pooledItems {
		return // shrink after a burst
	}
	clear(b.items)
	*b = Batch{items: b.items[:0]}
	batches.Put(b)
}

// events makes an item of a burst.
func (o *Options) events(b *event.Burst) Item {
	return Item{Burst: b, bytes: len(b.Bytes(o.Shape, o.Encoding))}
}

// sizeOf returns what an event counts for.
func (o *Options) sizeOf(e *event.Event) int { return len(e.Alone().Bytes(o.Shape, o.Encoding)) }

// frame makes an item of a frame of the server's own.
func frame(b []byte) Item { return Item{Frame: b, bytes: len(b)} }

// gap makes the item that tells of a gap in a group.
func (o *Options) gap(g event.Group) Item {
	it := frame(o.Gap(g))
	it.gap = g
	return it
}

// whole makes a burst of an item's remaining events.
func (o *Options) whole(it *Item) {
	rest := slices.DeleteFunc(it.left, func(e *event.Event) bool { return e == nil })
	b, _ := event.NewBurst(rest, it.Burst.Size()) // all of them: together they are smaller
	it.Burst, it.bytes, it.left = b, len(b.Bytes(o.Shape, o.Encoding)), nil
}
