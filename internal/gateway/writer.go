package gateway

import (
	"errors"
	"sync"
	"sync/atomic"

	"orgcast/internal/event"
	"orgcast/internal/outbox"
	"orgcast/internal/socket"
	"orgcast/internal/trail"
)

const (
	// joinLimit is how many bytes are joined into one write; more goes in several.
	joinLimit = 64 << 10
	// pooledBytes bounds the room that is kept for reuse after a burst.
	pooledBytes = 16 << 10
)

// writer sends what is queued in the outbox of one connection. At most one goroutine writes at a
// time: the one that called flush, or the writer's own while the socket has no room.
type writer struct {
	// Set before the outbox is opened, and not changed after that.
	client    *client
	transport Transport
	personal  bool                             // the transport has this ability
	handle    func(*event.Event) (wanted bool) // the consumer's HandleEvent, nil if it has none
	failed    func(error)                      // called when nothing more can be written

	box      outbox.Outbox
	tally    tally       // of what was written
	handling atomic.Bool // handle is running
}

// send queues a frame and flushes.
func (w *writer) send(frame []byte) {
	if w.act(w.box.Push(frame)) {
		w.flush()
	}
}

// replay queues missed events of a group, after the frame that reports a gap if there is one, and
// flushes.
func (w *writer) replay(g event.Group, gap []byte, events []*event.Event) error {
	return w.commit(w.box.Replay(g, gap, events))
}

// release queues the live events of a group that were held while its history was sent, except those
// up to the position newest, where the history ended.
func (w *writer) release(g event.Group, newest event.Position) error {
	return w.commit(w.box.Release(g, newest))
}

func (w *writer) commit(out outbox.Outcome) error {
	if w.act(out) {
		w.flush()
	}
	if out.Full {
		return ErrTooSlow
	}
	return nil
}

// Budget implements outbox.Owner.
func (w *writer) Budget() *outbox.Budget { return &w.client.budget.waiting }

// GaveWay implements outbox.Owner.
func (w *writer) GaveWay(out outbox.Outcome) { w.act(out) }

// act counts dropped events and reports whether a flush is needed. If the outbox is full and could
// drop nothing, act ends the connection: its browser reads too slowly, and may come back.
func (w *writer) act(out outbox.Outcome) (flush bool) {
	if out.Dropped > 0 {
		w.client.dropped(dropReasonOf(w.client.route.WhenFull), out.Dropped)
	}
	if out.Full {
		w.client.dropped(dropTooSlow, 1)
		w.failed(ErrTooSlow)
	}
	return out.Flush
}

// flush writes as much as the socket takes at once, and leaves the rest to a goroutine. It never
// blocks, so fan-out can call it for one connection after the other.
func (w *writer) flush() {
	b := w.box.Claim()
	if b == nil {
		return
	}
	if w.handle != nil || b.Bytes() > joinLimit || !w.transport.Direct() {
		w.start(b, socket.SentNone)
		return
	}
	frames, buffer, err := w.assemble(b)
	sent := socket.SentNone
	if err == nil && len(frames) > 0 {
		var how socket.How
		if buffer != nil {
			how |= socket.Reused
		}
		if b.Last() {
			how |= socket.Last
		}
		sent, err = w.transport.TryWrite(frames, how)
	}
	if buffer != nil {
		buffer.recycle()
	}
	switch {
	case err != nil:
		w.loseBatch(b)
		w.box.Done(b)
		w.failed(err)
	case len(frames) == 0: // everything was dropped
		if w.box.Done(b) {
			w.flush()
		}
	case sent != socket.SentAll:
		w.start(b, sent)
	default:
		w.wrote(b)
		if w.box.Done(b) {
			w.flush() // more was queued meanwhile
		}
	}
}

// start lets a goroutine write the rest of a claimed batch, and then whatever is queued. sent is
// what the socket has already taken of the batch.
func (w *writer) start(b *outbox.Batch, sent socket.Outcome) {
	w.box.Charge(b)
	go w.run(b, sent)
}

// run writes batches until nothing is left. Each write may wait for the browser.
func (w *writer) run(b *outbox.Batch, sent socket.Outcome) {
	for b != nil {
		err := w.client.guard("write", func() error {
			if sent == socket.SentPart {
				return w.finish(b)
			}
			return w.writeBatch(b)
		})
		w.box.Done(b)
		if err != nil {
			w.failed(err)
		}
		b, sent = w.box.Claim(), socket.SentNone
	}
}

// bytes returns the encoded item, on a transport that is not personal.
func (w *writer) bytes(it *outbox.Item) []byte {
	if it.Burst == nil {
		return it.Frame
	}
	return w.client.kind.bytes(it.Burst, w.transport)
}

// assemble returns a batch as one slice. A batch of one item is not copied; for others, the slice
// is in buffer, which the caller recycles.
func (w *writer) assemble(b *outbox.Batch) (frames []byte, buffer *joinBuffer, err error) {
	n := b.Len()
	for i := range n {
		it := b.Item(i)
		if it.Empty() {
			continue
		}
		if it.Burst != nil {
			if err := w.client.admit(it.Burst); err != nil {
				return nil, buffer, err
			}
		}
		if n == 1 {
			return w.bytes(it), nil, nil
		}
		if buffer == nil {
			buffer, _ = joinBuffers.Get().(*joinBuffer)
		}
		buffer.bytes = append(buffer.bytes, w.bytes(it)...)
	}
	if buffer == nil { // everything was dropped
		return nil, nil, nil
	}
	return buffer.bytes, buffer, nil
}

// finish sends the rest of a batch that the transport has written in part.
func (w *writer) finish(b *outbox.Batch) error {
	err := w.transport.Finish()
	if err == nil {
		w.wrote(b)
		return nil
	}
	w.loseBatch(b)
	if errors.Is(err, socket.ErrMuted) {
		return nil
	}
	return err
}

// size returns what events count for: their bytes before compression.
func (w *writer) size(b *event.Burst) int {
	return len(b.Bytes(w.client.kind.outbox.Shape, w.client.kind.outbox.Encoding))
}

// writeBatch writes the items in order.
func (w *writer) writeBatch(b *outbox.Batch) error {
	next := 0
	defer func() { // also if a hook panicked
		for ; next < b.Len(); next++ {
			w.loseItem(b.Item(next))
		}
	}()
	for next < b.Len() {
		next++
		if err := w.writeItem(b.Item(next - 1)); err != nil && !errors.Is(err, socket.ErrMuted) { // else the close frame may still be due
			return err
		}
	}
	return nil
}

// writeItem writes one item.
func (w *writer) writeItem(it *outbox.Item) error {
	switch {
	case it.Last:
		return w.transport.WriteClose(it.Frame)
	case it.Empty(): // it was dropped
		return nil
	case it.Burst != nil:
		return w.writeBurst(it)
	}
	if err := w.writeFrame(it.Frame); err != nil {
		return err
	}
	w.toldGap(it)
	return nil
}

func (w *writer) writeFrame(frame []byte) error {
	if w.personal {
		personal, _ := w.transport.(Personal)
		return personal.WriteFrame(frame)
	}
	return w.transport.Write(frame)
}

func (w *writer) writeEvents(b *event.Burst) error {
	if w.personal {
		personal, _ := w.transport.(Personal)
		return personal.WriteEvents(b, w.client.kind.outbox.Shape)
	}
	return w.transport.Write(w.client.kind.bytes(b, w.transport))
}

// writeBurst writes events. A consumer with HandleEvent sees each one first and may discard it.
func (w *writer) writeBurst(it *outbox.Item) error {
	done := 0 // events that were written or kept back
	events := it.Burst.Events()
	defer func() { w.lose(events[done:], trail.LostWrite) }()
	if err := w.client.admit(it.Burst); err != nil {
		return err
	}
	if w.handle == nil {
		if err := w.writeEvents(it.Burst); err != nil {
			return err
		}
		w.wroteBurst(it.Burst)
		done = len(events)
		return nil
	}
	for _, e := range events {
		if w.transport.Muted() {
			return socket.ErrMuted
		}
		w.handling.Store(true)
		wanted := w.handle(e)
		w.handling.Store(false)
		if !wanted {
			w.lose(e.Alone().Events(), trail.LostConsumer)
			done++
			continue
		}
		if err := w.writeEvents(e.Alone()); err != nil {
			return err
		}
		w.wroteBurst(e.Alone())
		done++
	}
	return nil
}

// joinBuffer holds the frames of several items for one write.
type joinBuffer struct{ bytes []byte }

var joinBuffers = sync.Pool{New: func() any { return new(joinBuffer) }} //nolint:gochecknoglobals // a pool is shared by nature

func (j *joinBuffer) recycle() {
	if cap(j.bytes) > pooledBytes {
		return
	}
	j.bytes = j.bytes[:0]
	joinBuffers.Put(j)
}
