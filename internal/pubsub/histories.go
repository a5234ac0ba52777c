package pubsub

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
)

// Fields of a history's entry. record.v1.lua writes them.
const (
	eventField = "event" // the object
	keyField   = "key"   // the hash of the idempotency key, if there is one
)

const (
	// HistoryBytes is the most that [Histories.History] returns, in bytes of events. A member who
	// may join a group may ask for its history again and again. The longest history of the largest
	// events has 250 MiB, and a few of those at once would fill the memory of a node.
	HistoryBytes = 2 << 20
	// firstPage is the number of entries in the first page. Redis takes a count, not bytes, and
	// this many of the largest events are 1 MiB. While entries are small, pages grow: up to
	// pageBytes judged by the entries seen, and up to pageMost if all entries were as large as an
	// event can be. So neither Redis nor the node holds more of a history at once before it is
	// known to be large. A caller that may read many bytes, such as catching up, gets up to half of
	// those bytes in a page, because each page costs a round trip.
	firstPage = 4
	pageBytes = 1 << 20
	pageMost  = 4 << 20
	// pagesTimeouts is how many HistoryTimeouts all pages of a history may take together. Each page
	// may take one. The total depends on the distance to Redis: a thousand events take some 65
	// round trips, which exceed one HistoryTimeout at 30 ms each. A waiting browser keeps one of
	// its organization's turns.
	pagesTimeouts = 5
)

// Histories reads recorded events. It has no state that changes. Its methods are safe for
// concurrent use.
type Histories struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	opt     Options
	decoder *decoder
}

// NewHistories returns Histories with the same kinds of client as [NewRedis]. It uses the Options
// MaxEventSize, HistoryTimeout and Log.
func NewHistories(client redis.UniversalClient, keys keyspace.Keyspace, opt Options) *Histories {
	opt = opt.withDefaults()
	return newHistories(client, keys, opt, newMetrics(nil))
}

// newHistories is NewHistories with defaults set, and with metrics that count dropped events.
func newHistories(client redis.UniversalClient, keys keyspace.Keyspace, opt Options, m *metrics) *Histories {
	return &Histories{client: client, keys: keys, opt: opt, decoder: newDecoder(opt, m)}
}

// History returns the newest n events of the group's history, oldest first. It returns fewer if
// they exceed [HistoryBytes], but always the newest one. Events that [event.Decode] refuses are
// left out and counted.
func (h *Histories) History(ctx context.Context, g event.Group, n int) ([]*event.Event, error) {
	entries, _, err := h.newest(ctx, g, span{"-", "+"}, n, HistoryBytes)
	if err != nil {
		return nil, err
	}
	return h.decodeEntries(g, entries, event.Head{}), nil
}

// Before returns the events that were recorded before a position, oldest first: the newest limit of
// them, or fewer if they exceed a number of bytes, but at least one. The zero Position stands for
// the end of the history. more says that the history goes back further. Events that [event.Decode]
// refuses are left out and counted.
func (h *Histories) Before(ctx context.Context, g event.Group, before event.Position, limit, bytes int) (events []*event.Event, more bool, err error) {
	within := span{"-", "+"}
	if !before.IsZero() {
		within.to = "(" + before.String()
	}
	for {
		entries, all, err := h.newest(ctx, g, within, limit+1, bytes)
		if err != nil {
			return nil, false, err
		}
		more = !all || len(entries) > limit
		entries = entries[:min(len(entries), limit)]
		if events = h.decodeEntries(g, entries, event.Head{}); len(events) > 0 || !more {
			return events, more, nil
		}
		// A page without an event would not say where to go on.
		within.to = "(" + entries[len(entries)-1].ID
	}
}

// span is a part of a history, in the words of XREVRANGE.
type span struct{ from, to string }

// newest reads the newest n entries of a part of a history, newest first. It returns fewer if they
// exceed a number of bytes, but always the newest one. all says that the beginning of the part was
// reached.
func (h *Histories) newest(ctx context.Context, g event.Group, within span, n, bytes int) (entries []redis.XMessage, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, pagesTimeouts*h.opt.HistoryTimeout)
	defer cancel()
	count, most := firstPage, max(firstPage, max(pageMost, bytes/2)/h.opt.largest())
	for len(entries) < n {
		asked := min(count, n-len(entries))
		page, err := h.page(ctx, g, within, asked)
		if err != nil {
			return nil, false, err
		}
		room := bytes
		for _, entry := range page {
			payload, _ := entry.Values[eventField].(string)
			if bytes -= len(payload); bytes < 0 && len(entries) > 0 {
				return entries, false, nil
			}
			entries = append(entries, entry)
		}
		if len(page) < asked {
			return entries, true, nil
		}
		count = min(2*count, most, max(asked*pageBytes/max(room-bytes, 1), 1))
		within.to = "(" + page[len(page)-1].ID
	}
	return entries, false, nil
}

// page reads one page of a history.
func (h *Histories) page(ctx context.Context, g event.Group, within span, count int) ([]redis.XMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opt.HistoryTimeout)
	defer cancel()
	page, err := h.client.XRevRangeN(ctx, h.keys.History(g), within.to, within.from, int64(count)).Result()
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", g, err)
	}
	return page, nil
}

// Has reports whether the group's history has an event at a position.
func (h *Histories) Has(ctx context.Context, g event.Group, p event.Position) (bool, error) {
	page, err := h.page(ctx, g, span{p.String(), p.String()}, 1)
	return len(page) > 0, err
}

// Since returns the events that were recorded after a position, oldest first. complete says that
// none is missing: the event at that position is still there, so no later event can have been
// dropped for its age or number. Also, no entry was deleted, and the events are within limit and,
// if they are many, [HistoryBytes]. If complete is false, events may be missing between the
// position and the first event returned. The events are then the newest ones within the same
// bounds.
//
// After the zero Position, which is that of an empty history, complete says that no event was ever
// dropped. A history that expired as a whole looks as if it had always been empty.
//
// Events that [event.Decode] refuses are left out and counted, and do not make the answer
// incomplete.
func (h *Histories) Since(ctx context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error) {
	return h.since(ctx, query{group: g, mark: event.Mark{Position: after}, limit: limit}, HistoryBytes)
}

// Resume returns the events recorded after a mark, like [Histories.Since]. If they are many, it
// returns at most the given number of bytes. After a zero mark, complete also requires that the
// organization's data still have the mark's epoch.
func (h *Histories) Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error) {
	return h.since(ctx, query{group: g, mark: after, limit: limit, epoch: true}, min(bytes, HistoryBytes))
}

func (h *Histories) since(ctx context.Context, q query, bytes int) (events []*event.Event, complete bool, err error) {
	if q.limit <= 0 {
		return nil, false, nil
	}
	few := q
	few.limit = min(q.limit, firstPage-1) // one event more is read
	few.skim = few.limit < q.limit
	f := h.seek(ctx, []query{few})[0]
	if f.more && few.limit < q.limit {
		f = h.seekAll(ctx, q, bytes)
	}
	return f.events, f.complete, f.err
}

// Recorded returns the position of the event recorded for the group under an idempotency key. ok is
// false if there is none, or if the key has expired.
func (h *Histories) Recorded(ctx context.Context, g event.Group, key string) (at event.Position, ok bool, err error) {
	if !event.ValidIdempotencyKey(key) {
		return event.Position{}, false, event.ErrInvalidIdempotencyKey
	}
	ctx, cancel := context.WithTimeout(ctx, h.opt.HistoryTimeout)
	defer cancel()
	text, err := h.client.Get(ctx, h.keys.Once(g, key)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return event.Position{}, false, nil
	case err != nil:
		return event.Position{}, false, fmt.Errorf("find what was recorded for %s: %w", g, err)
	}
	at, err = event.ParsePosition(text)
	return at, err == nil, err
}
