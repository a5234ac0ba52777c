package pubsub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgcast/internal/event"

	"github.com/redis/go-redis/v9"
)

// eventField is the field of a history's entry that holds the payload; record.lua writes it.
const eventField = "event"

// History returns the newest n events of the group's history, oldest first. What [event.Decode]
// refuses is left out and counted.
func (r *Redis) History(ctx context.Context, g event.Group, n int) ([]*event.Event, error) {
	if n <= 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	entries, err := r.client.XRevRangeN(ctx, r.keys.History(g), "+", "-", int64(n)).Result()
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", g, err)
	}
	return r.decodeEntries(g, entries), nil
}

// Since returns the events that were recorded after a position, oldest first. complete says that
// these are all: the event at that position is still there, so that nothing behind it can have
// been dropped for its age or number, none was deleted, and they are no more than limit. If it is
// false, something may be missing between the position and the first event returned; these are
// then the newest ones, at most limit.
//
// After the zero Position, that of a history that was still empty, complete says that nothing
// was ever dropped. A history that has expired as a whole since looks as if it had always been empty.
//
// What [event.Decode] refuses is left out and counted, and makes nothing incomplete.
func (r *Redis) Since(ctx context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error) {
	if limit <= 0 {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	key := r.keys.History(g)
	// The two need not be one transaction: entries go from the front, so while the one at the
	// position is there all behind it are, and the state read later tells of deletions before it.
	pipe := r.client.Pipeline()
	newest := pipe.XRevRangeN(ctx, key, "+", after.String(), int64(limit)+1)
	state := pipe.XInfoStream(ctx, key)
	_, _ = pipe.Exec(ctx) // each command has its own error
	entries, err := newest.Result()
	if err != nil {
		return nil, false, fmt.Errorf("history of %s: %w", g, err)
	}
	info, err := state.Result()
	exists := err == nil
	if err != nil && !strings.Contains(err.Error(), "no such key") {
		return nil, false, fmt.Errorf("history of %s: %w", g, err)
	}
	switch last := len(entries) - 1; {
	case after.IsZero() && last < limit:
		complete = exists && info.EntriesAdded == info.Length || !exists && len(entries) == 0
	case last >= 0 && entries[last].ID == after.String():
		entries = entries[:last]
		complete = exists && !deletedAfter(info, after)
	case last == limit:
		entries = entries[:limit]
	}
	return r.decodeEntries(g, entries), complete, nil
}

// deletedAfter reports whether an entry behind the position was deleted by somebody; one that was
// dropped for its age or number does not count here.
func deletedAfter(info *redis.XInfoStream, after event.Position) bool {
	deleted, err := event.ParsePosition(info.MaxDeletedEntryID)
	return err == nil && deleted.Compare(after) > 0
}

// decodeEntries makes events of entries that are in the reverse order.
func (r *Redis) decodeEntries(g event.Group, entries []redis.XMessage) []*event.Event {
	now := time.Now()
	events := make([]*event.Event, 0, len(entries))
	for _, entry := range slices.Backward(entries) {
		payload, _ := entry.Values[eventField].(string) // without one it is no object
		if e, err := r.decode(g, entry.ID+" "+payload, now); err == nil {
			events = append(events, e)
		}
	}
	return events
}
