package pubsub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/redisreply"

	"github.com/redis/go-redis/v9"
)

// Fields of a history's entry; record.lua writes them.
const (
	eventField = "event" // the object
	keyField   = "key"   // the hash of the idempotency key, if there was one
)

const (
	// HistoryBytes bounds what [Redis.History] returns, in bytes of events. Whoever may join a group may
	// ask for its history again and again; the longest one of the largest events has 250 MiB, of
	// which a few at a time would fill the memory of a node.
	HistoryBytes = 2 << 20
	// firstPage is how many entries are read first: Redis takes a count, not bytes, and so many of the
	// largest events are a MiB. While entries are small, pages grow up to pageBytes by the entries seen,
	// and to pageMost if all were as large as an event can be: neither Redis nor the node has more of a
	// history at a time before it is known to be a large one. For who may read much, as catching up does,
	// it is half of that: each page costs a round trip.
	firstPage = 4
	pageBytes = 1 << 20
	pageMost  = 4 << 20
	// pagesTimeouts is how many HistoryTimeouts all pages of a history have together. Each has one, so it is the
	// distance to Redis that counts: a thousand events are some 65 round trips, and as many of 30 ms took longer than
	// one. A browser that waits keeps one of its organization's turns.
	pagesTimeouts = 5
)

// History returns the newest n events of the group's history, oldest first, as far as they have no
// more than [HistoryBytes]; the newest one always. What [event.Decode] refuses is left out and counted.
func (r *Redis) History(ctx context.Context, g event.Group, n int) ([]*event.Event, error) {
	entries, _, err := r.newest(ctx, g, "-", n, HistoryBytes)
	if err != nil {
		return nil, err
	}
	return r.decodeEntries(g, entries, event.Head{}), nil
}

// newest reads the newest n entries of a history, newest first, back to an ID, as far as they have no more than
// so many bytes, but the newest one always. all says that there are no more of these.
func (r *Redis) newest(ctx context.Context, g event.Group, back string, n, bytes int) (entries []redis.XMessage, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, pagesTimeouts*r.opt.HistoryTimeout)
	defer cancel()
	count, most := firstPage, max(firstPage, max(pageMost, bytes/2)/r.opt.MaxEventSize)
	for before := "+"; len(entries) < n; {
		asked := min(count, n-len(entries))
		page, err := r.page(ctx, g, before, back, asked)
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
		before = "(" + page[len(page)-1].ID
	}
	return entries, false, nil
}

// page reads one page of a history.
func (r *Redis) page(ctx context.Context, g event.Group, before, back string, count int) ([]redis.XMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	page, err := r.client.XRevRangeN(ctx, r.keys.History(g), before, back, int64(count)).Result()
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", g, err)
	}
	return page, nil
}

// Since returns the events that were recorded after a position, oldest first. complete says that
// these are all: the event at that position is still there, so that nothing behind it can have
// been dropped for its age or number, none was deleted, and they are no more than limit and, if they are many,
// [HistoryBytes]. If it is false, something may be missing between the position and the first event returned;
// these are then the newest ones within the same bounds.
//
// After the zero Position, that of a history that was still empty, complete says that nothing
// was ever dropped. A history that has expired as a whole since looks as if it had always been empty.
//
// What [event.Decode] refuses is left out and counted, and makes nothing incomplete.
func (r *Redis) Since(ctx context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error) {
	return r.since(ctx, sought{group: g, mark: event.Mark{Position: after}, limit: limit}, HistoryBytes)
}

// Resume returns what was recorded after a mark, as [Redis.Since] does, and if that is many events, no more than so
// many bytes. A zero mark is complete only if the organization's data are in the same life as then.
func (r *Redis) Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error) {
	return r.since(ctx, sought{group: g, mark: after, limit: limit, epoch: true}, min(bytes, HistoryBytes))
}

func (r *Redis) since(ctx context.Context, q sought, bytes int) (events []*event.Event, complete bool, err error) {
	if q.limit <= 0 {
		return nil, false, nil
	}
	few := q
	few.limit = min(q.limit, firstPage-1) // one more is read
	few.skim = few.limit < q.limit
	f := r.seek(ctx, []sought{few})[0]
	if f.more && few.limit < q.limit {
		f = r.seekAll(ctx, q, bytes)
	}
	f = r.unseen(q, f)
	return f.events, f.complete, f.err
}

// sought is a question to a history: what came after the mark, at most the newest limit events?
// epoch has the epoch looked at if the mark is zero; skim says that the events of an answer with more are not wanted.
type sought struct {
	group event.Group
	mark  event.Mark
	limit int
	epoch bool
	skim  bool
}

// found is the answer. more says that it is incomplete because of the limit alone, as far as known.
type found struct {
	events         []*event.Event
	complete, more bool
	err            error
}

// seekAll asks one history page by page, and reads no more than so many bytes of it.
func (r *Redis) seekAll(ctx context.Context, q sought, bytes int) found {
	entries, all, err := r.newest(ctx, q.group, q.mark.Position.String(), q.limit+1, bytes)
	if err != nil {
		return found{err: err}
	}
	if !all && len(entries) <= q.limit {
		return found{events: r.decodeEntries(q.group, entries, event.Head{}), more: true}
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	pipe := r.client.Pipeline()
	a := r.ask(ctx, pipe, q)
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	return r.answer(q, entries, a)
}

// seek asks histories in one round trip. The commands for one history need not be one transaction:
// entries go from the front, so while the one at the position is there all behind it are, and the
// state read later tells of deletions before it.
func (r *Redis) seek(ctx context.Context, questions []sought) []found {
	ctx, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	pipe := r.client.Pipeline()
	newest := make([]*redis.XMessageSliceCmd, len(questions))
	facts := make([]about, len(questions))
	for i, q := range questions {
		newest[i] = pipe.XRevRangeN(ctx, r.keys.History(q.group), "+", q.mark.Position.String(), int64(q.limit)+1)
		facts[i] = r.ask(ctx, pipe, q)
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	answers := make([]found, len(questions))
	for i, q := range questions {
		entries, err := newest[i].Result()
		if err != nil {
			answers[i].err = fmt.Errorf("history of %s: %w", q.group, err)
			continue
		}
		answers[i] = r.answer(q, entries, facts[i])
	}
	return answers
}

// about is what has to be known of a history beside its entries. epoch is nil if it does not matter.
type about struct {
	state *redis.XInfoStreamCmd
	epoch *redis.StringCmd
}

// ask queues the questions about a history.
func (r *Redis) ask(ctx context.Context, pipe redis.Pipeliner, q sought) (a about) {
	a.state = pipe.XInfoStream(ctx, r.keys.History(q.group))
	if q.epoch && q.mark.Position.IsZero() {
		a.epoch = pipe.Get(ctx, r.keys.Epoch(q.group.Organization()))
	}
	return a
}

// answer puts the answer to a question together. entries are the newest ones from the mark on, newest first, at
// most one more than the limit.
func (r *Redis) answer(q sought, entries []redis.XMessage, a about) (f found) {
	info, err := a.state.Result()
	if err != nil && strings.Contains(err.Error(), "no such key") {
		info, err = nil, nil
	}
	if err != nil {
		return found{err: fmt.Errorf("history of %s: %w", q.group, err)}
	}
	var seen event.Head
	if last := len(entries) - 1; last >= 0 && entries[last].ID == q.mark.Position.String() {
		seen = event.Head{Position: q.mark.Position, Key: keyOf(entries[last])}
	}
	entries = f.judge(q, entries, info)
	if a.epoch != nil && (q.mark.Epoch == "" || a.epoch.Val() != q.mark.Epoch) {
		f.complete = false
	}
	if !q.skim || !f.more {
		f.events = r.decodeEntries(q.group, entries, seen)
	}
	return f
}

// judge says what the entries of a history, newest first, are worth as an answer, and returns those
// that belong to it. info is nil if there is no history.
func (f *found) judge(q sought, entries []redis.XMessage, info *redis.XInfoStream) []redis.XMessage {
	switch last := len(entries) - 1; {
	case q.mark.Position.IsZero() && last < q.limit:
		f.complete = info == nil && len(entries) == 0 || info != nil && info.EntriesAdded == info.Length
	case last >= 0 && entries[last].ID == q.mark.Position.String():
		entries = entries[:last]
		f.complete = info != nil && !deletedAfter(info, q.mark.Position)
	case last == q.limit:
		entries = entries[:q.limit]
		f.more = true
	}
	return entries
}

// deletedAfter reports whether an entry behind the position was deleted by somebody; one that was
// dropped for its age or number does not count here.
func deletedAfter(info *redis.XInfoStream, after event.Position) bool {
	deleted, err := event.ParsePosition(info.MaxDeletedEntryID)
	return err == nil && deleted.Compare(after) > 0
}

// decodeEntries makes events of entries that are in the reverse order. Of several under the same
// idempotency key, seen being the one before them, it makes the first alone.
func (r *Redis) decodeEntries(g event.Group, entries []redis.XMessage, seen event.Head) []*event.Event {
	now := time.Now()
	events := make([]*event.Event, 0, len(entries))
	keyed := map[uint64]event.Position{seen.Key: seen.Position}
	for _, entry := range slices.Backward(entries) {
		head := event.Head{Key: keyOf(entry)}
		head.Position, _ = event.ParsePosition(entry.ID) // as Redis made it
		if head.Key != 0 {
			if before, ok := keyed[head.Key]; ok && apart(before, head.Position) < shownFor {
				r.metrics.repeated.Inc()
				continue
			}
			keyed[head.Key] = head.Position
		}
		object, _ := entry.Values[eventField].(string) // without one it is no object
		if e, err := r.decode(g, head, object, now); err == nil {
			events = append(events, e)
		}
	}
	return events
}

// unseen leaves out of an answer what a browser that has seen everything up to the mark has seen under another
// position, as far as this node knows. Unless it was at the mark itself, the browser may have come from a node
// that did not show it. Nothing is to be shown twice, so that is a gap, and the answer begins behind it.
func (r *Redis) unseen(q sought, f found) found {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[r.keys.GroupChannel(q.group)]
	if s == nil {
		return f
	}
	kept := f.events[:0]
	for _, e := range f.events {
		before := s.meter.shown.repeats(&s.shown, event.Head{Position: e.Position(), Key: e.Key()})
		switch {
		case before == nil || before.position.Compare(q.mark.Position) > 0:
			kept = append(kept, e)
		case before.position != q.mark.Position:
			kept, f.complete = kept[:0], false
		}
	}
	clear(f.events[len(kept):])
	f.events = kept
	return f
}

// keyOf returns what stands for the idempotency key of a history's entry, 0 if there was none.
func keyOf(entry redis.XMessage) uint64 {
	text, _ := entry.Values[keyField].(string)
	key, _ := event.ParseKeyHash(text)
	return key
}
