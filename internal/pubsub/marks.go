package pubsub

import (
	"context"
	"crypto/rand"
	"slices"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
)

// answersBytes bounds the answers of one round trip if all entries were as large as an event can
// be. Redis takes a count, not bytes.
const answersBytes = 64 << 20

// entriesAtOnce is how many entries of histories one round trip may return.
func (h *Histories) entriesAtOnce() int { return max(answersBytes/h.opt.largest(), 1) }

// marks reads the newest position of each history, and the epoch if the history is empty. An
// organization without an epoch gets one.
func (h *Histories) marks(ctx context.Context, groups []event.Group) (marks []event.Mark, known []bool) {
	for some := range slices.Chunk(groups, h.entriesAtOnce()) {
		m, k := h.someMarks(ctx, some)
		marks, known = append(marks, m...), append(known, k...)
	}
	return marks, known
}

// someMarks reads marks in one round trip, plus one if an organization has no epoch.
func (h *Histories) someMarks(ctx context.Context, groups []event.Group) (marks []event.Mark, known []bool) {
	pipe := h.client.Pipeline()
	epochs := make(map[orgctx.ID]*redis.StringCmd)
	newest := make([]*redis.XMessageSliceCmd, len(groups))
	for i, g := range groups {
		org := g.Organization()
		if epochs[org] == nil { // first: if Redis loses data in between, both are lost
			epochs[org] = pipe.Get(ctx, h.keys.Epoch(org))
		}
		newest[i] = pipe.XRevRangeN(ctx, h.keys.History(g), "+", "-", 1)
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	marks, known = make([]event.Mark, len(groups)), make([]bool, len(groups))
	created := make(map[orgctx.ID]*redis.StringCmd)
	pipe = h.client.Pipeline()
	for i, g := range groups {
		entries, err := newest[i].Result()
		if err != nil {
			continue
		}
		if known[i] = true; len(entries) > 0 {
			marks[i].Position, err = event.ParsePosition(entries[0].ID)
			known[i] = err == nil
			continue
		}
		org := g.Organization()
		if marks[i].Epoch = epochs[org].Val(); marks[i].Epoch == "" && created[org] == nil {
			pipe.Do(ctx, "setnx", h.keys.Epoch(org), rand.Text()) // its ACL does not allow SET, which could overwrite
			created[org] = pipe.Get(ctx, h.keys.Epoch(org))
		}
	}
	if len(created) > 0 {
		_ = redisreply.Exec(ctx, pipe) // if Redis refuses it, there is no epoch, and a new history ends in a gap
	}
	for i, g := range groups {
		if c := created[g.Organization()]; c != nil && known[i] && marks[i] == (event.Mark{}) {
			marks[i].Epoch = c.Val()
		}
	}
	return marks, known
}
