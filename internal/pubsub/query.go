package pubsub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/redisreply"
)

// query asks a history for the events after mark, at most the newest limit of them. With epoch and
// a zero mark, the epoch is compared too. With skim, the events are not wanted if there are more
// than limit.
type query struct {
	group event.Group
	mark  event.Mark
	limit int
	epoch bool
	skim  bool
}

// answer answers a query. more says that the answer is incomplete only because of the limit, as far
// as known.
type answer struct {
	events         []*event.Event
	complete, more bool
	err            error
}

// seekAll asks one history page by page, and reads at most the given number of bytes.
func (h *Histories) seekAll(ctx context.Context, q query, bytes int) answer {
	entries, all, err := h.newest(ctx, q.group, span{q.mark.Position.String(), "+"}, q.limit+1, bytes)
	if err != nil {
		return answer{err: err}
	}
	if !all && len(entries) <= q.limit {
		return answer{events: h.decodeEntries(q.group, entries, event.Head{}), more: true}
	}
	ctx, cancel := context.WithTimeout(ctx, h.opt.HistoryTimeout)
	defer cancel()
	pipe := h.client.Pipeline()
	a := h.ask(ctx, pipe, q)
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	return h.conclude(q, entries, a)
}

// seek asks histories in one round trip. The commands for one history need not be one transaction.
// Entries are dropped from the front, so while the entry at the mark is there, all later ones are
// too. The state is read afterwards and shows deletions.
func (h *Histories) seek(ctx context.Context, questions []query) []answer {
	ctx, cancel := context.WithTimeout(ctx, h.opt.HistoryTimeout)
	defer cancel()
	pipe := h.client.Pipeline()
	newest := make([]*redis.XMessageSliceCmd, len(questions))
	facts := make([]about, len(questions))
	for i, q := range questions {
		newest[i] = pipe.XRevRangeN(ctx, h.keys.History(q.group), "+", q.mark.Position.String(), int64(q.limit)+1)
		facts[i] = h.ask(ctx, pipe, q)
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	answers := make([]answer, len(questions))
	for i, q := range questions {
		entries, err := newest[i].Result()
		if err != nil {
			answers[i].err = fmt.Errorf("history of %s: %w", q.group, err)
			continue
		}
		answers[i] = h.conclude(q, entries, facts[i])
	}
	return answers
}

// about holds the facts needed about a history besides its entries. epoch is nil if it does not
// matter.
type about struct {
	state *redis.XInfoStreamCmd
	epoch *redis.StringCmd
}

// ask queues the questions about a history.
func (h *Histories) ask(ctx context.Context, pipe redis.Pipeliner, q query) (a about) {
	a.state = pipe.XInfoStream(ctx, h.keys.History(q.group))
	if q.epoch && q.mark.Position.IsZero() {
		a.epoch = pipe.Get(ctx, h.keys.Epoch(q.group.Organization()))
	}
	return a
}

// conclude builds the answer to a query. entries are the newest ones from the mark on, newest
// first, at most one more than the limit.
func (h *Histories) conclude(q query, entries []redis.XMessage, a about) (f answer) {
	info, err := a.state.Result()
	if err != nil && strings.Contains(err.Error(), "no such key") {
		info, err = nil, nil
	}
	if err != nil {
		return answer{err: fmt.Errorf("history of %s: %w", q.group, err)}
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
		f.events = h.decodeEntries(q.group, entries, seen)
	}
	return f
}

// judge sets complete and more from the entries of a history, newest first, and returns the entries
// that belong to the answer. info is nil if there is no history.
func (f *answer) judge(q query, entries []redis.XMessage, info *redis.XInfoStream) []redis.XMessage {
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

// deletedAfter reports whether someone deleted an entry after the position. Entries dropped for
// their age or number do not count.
func deletedAfter(info *redis.XInfoStream, after event.Position) bool {
	deleted, err := event.ParsePosition(info.MaxDeletedEntryID)
	return err == nil && deleted.Compare(after) > 0
}

// decodeEntries decodes entries, which are newest first, into events, oldest first. If several
// entries have the same idempotency key, only the first becomes an event. seen is the entry before
// them.
func (h *Histories) decodeEntries(g event.Group, entries []redis.XMessage, seen event.Head) []*event.Event {
	now := time.Now()
	events := make([]*event.Event, 0, len(entries))
	keyed := map[uint64]event.Position{seen.Key: seen.Position}
	for _, entry := range slices.Backward(entries) {
		head := event.Head{Key: keyOf(entry)}
		head.Position, _ = event.ParsePosition(entry.ID) // Redis created it, so it is valid
		if head.Key != 0 {
			if before, ok := keyed[head.Key]; ok && roster.Repeats(before, head.Position) {
				h.decoder.metrics.repeated.Inc()
				continue
			}
			keyed[head.Key] = head.Position
		}
		object, _ := entry.Values[eventField].(string) // "" fails to decode
		if e, err := h.decoder.decode(g, head, object, now); err == nil {
			events = append(events, e)
		}
	}
	return events
}

// keyOf returns the key hash of a history's entry, 0 if it has no idempotency key.
func keyOf(entry redis.XMessage) uint64 {
	text, _ := entry.Values[keyField].(string)
	key, _ := event.ParseKeyHash(text)
	return key
}
