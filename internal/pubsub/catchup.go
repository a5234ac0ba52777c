package pubsub

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/loglimit"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/trail"
)

const (
	// catchUpBatch is the most histories read in one round trip, and catchUpFew the most events
	// read of each. Groups that missed more are asked for again, fewer at a time, and at last one
	// by one.
	catchUpBatch = 128
	catchUpFew   = 32
	// stateEntries is how many entries come with the state of a history: its first and its last.
	stateEntries = 2
	// catchUpMost is more than a history of the default length keeps. catchUpMostBytes is the most
	// that is read of one history, so that a few histories of large events do not fill the memory
	// of the node.
	catchUpMost      = 2 * event.DefaultHistoryLength
	catchUpMostBytes = 64 << 20
	// catchUpAttempts is how often a history is asked before the group gets a gap instead.
	catchUpAttempts = 4
	catchUpPause    = 100 * time.Millisecond
)

// catcher reads the events that groups of a link missed, and delivers them.
type catcher struct {
	subs      *subscriptions
	histories *Histories
	delivery  *delivery
	line      *line
	log       *zap.Logger
	trouble   loglimit.Limiter
}

// run delivers missed events until ctx ends.
func (c *catcher) run(ctx context.Context) {
	most := min(catchUpBatch, max(c.histories.entriesAtOnce()/(2+stateEntries), 1)) // the mark and one event
	for ctx.Err() == nil {
		batch := c.subs.behind(c.line, most)
		if len(batch) == 0 {
			select {
			case <-c.line.read:
			case <-ctx.Done():
			}
			continue
		}
		c.bringUp(ctx, batch)
	}
}

// bringUp delivers the missed events of some groups. The fewer groups there are, the more events it
// reads of each.
func (c *catcher) bringUp(ctx context.Context, batch []roster.Behind) {
	limit := min(catchUpFew, max(c.histories.entriesAtOnce()/len(batch)-stateEntries-1, 1)) // one event more is read
	var more []roster.Behind
	answers := c.missed(ctx, batch, limit, c.histories.seek)
	for i, f := range answers {
		answers[i] = answer{} // frees its memory before the next ones are read
		if f.more && limit < catchUpFew && len(batch) > 1 {
			more = append(more, batch[i])
			continue
		}
		if f.more {
			f = c.missed(ctx, batch[i:i+1], catchUpMost, c.seekMost)[0]
		}
		if f.err == nil && !f.complete && !f.more && !batch[i].Mark().Position.IsZero() {
			f = c.seekRemembered(ctx, batch[i], f)
		}
		if ctx.Err() != nil {
			return // the groups will catch up on the next link
		}
		if f.err != nil {
			if suppressed, ok := c.trouble.Allow(time.Now()); ok {
				c.log.Warn("reading missed events failed", zap.Error(f.err), zap.Int("suppressed", suppressed))
			}
		}
		c.hand(batch[i], f)
	}
	for fewer := range slices.Chunk(more, max(len(batch)/4, 1)) {
		c.bringUp(ctx, fewer)
	}
}

// seekMost asks one history for more events than seek is suited for.
func (c *catcher) seekMost(ctx context.Context, questions []query) []answer {
	return []answer{c.histories.seekAll(ctx, questions[0], catchUpMostBytes)}
}

// seekRemembered asks a history that does not have the mark for the events after the newest
// delivered position that it does have. When a master that hung and was replaced wakes up, it
// passes on events that its successor never had. The mark is then ahead of everything that the
// successor recorded meanwhile. f is the answer for the mark. It stays if the history has none of
// the remembered positions.
func (c *catcher) seekRemembered(ctx context.Context, b roster.Behind, f answer) answer {
	remembered := c.subs.remembered(b)
	if len(remembered) == 0 {
		return f
	}
	oldest := slices.MinFunc(remembered, event.Position.Compare)
	entries, _, err := c.histories.newest(ctx, b.Group(), span{oldest.String(), "+"}, catchUpMost, catchUpMostBytes)
	if err != nil {
		f.err = err
		return f
	}
	at := make(map[string]int, len(entries))
	for i, e := range entries {
		at[e.ID] = i
	}
	for _, position := range slices.Backward(remembered) {
		end, ok := at[position.String()]
		if !ok {
			continue
		}
		// The history has no event that was delivered later, so nothing comes twice.
		f.events = c.histories.decodeEntries(b.Group(), entries[:end], event.Head{Position: position, Key: keyOf(entries[end])})
		return f
	}
	return f
}

// missed asks histories, and asks those that do not answer again.
func (c *catcher) missed(ctx context.Context, batch []roster.Behind, limit int, seek func(context.Context, []query) []answer) []answer {
	questions := make([]query, len(batch))
	for i, b := range batch {
		questions[i] = query{group: b.Group(), mark: b.Mark(), limit: limit, epoch: true, skim: limit <= catchUpFew}
	}
	answers := make([]answer, len(batch))
	open := make([]int, len(batch)) // indexes of those without an answer
	for i := range open {
		open[i] = i
	}
	for attempt := 1; ; attempt++ {
		ask := make([]query, len(open))
		for i, n := range open {
			ask[i] = questions[n]
		}
		got := seek(ctx, ask)
		var failed []int
		for i, n := range open {
			if answers[n] = got[i]; got[i].err != nil {
				failed = append(failed, n)
			}
		}
		open = failed
		if len(open) == 0 || attempt == catchUpAttempts {
			return answers
		}
		select {
		case <-time.After(catchUpPause << attempt):
		case <-ctx.Done():
			return answers
		}
	}
}

// hand delivers the events that a group missed, after a gap if the answer may not have all of them,
// and then the messages held meanwhile. It stops early if the group is paused or left.
func (c *catcher) hand(b roster.Behind, f answer) {
	if c.subs.handOver(b, roster.Answer{Events: f.events, Complete: f.complete, Failed: f.err != nil}) {
		c.delivery.gap(b.Group(), f.gapReason())
	}
	for _, e := range f.events {
		if !c.handOne(b, e) {
			break
		}
	}
	for c.handHeld(b) {
	}
}

// handOne delivers one event of a history, unless the group no longer waits for it.
func (c *catcher) handOne(b roster.Behind, e *event.Event) (more bool) {
	c.delivery.inTurn(b.Group(), e, func() (v roster.Verdict) {
		v, more = c.subs.caughtUp(b, event.Head{Position: e.Position(), Key: e.Key()})
		if more && v == roster.Deliver {
			c.delivery.metrics.caughtUp.Inc()
		}
		return v
	})
	return more
}

// handHeld delivers the first held event, and reports whether there may be another one.
func (c *catcher) handHeld(b roster.Behind) (more bool) {
	h, ok := c.subs.firstHeld(b)
	if !ok {
		return false
	}
	decoder := c.histories.decoder
	e, err := decoder.decode(b.Group(), h.Head, h.Object, h.Received) // not in its turn, as others would wait
	if err == nil {
		c.delivery.tracer.Watch(e, h.Head.Trace)
	}
	c.delivery.inTurn(b.Group(), e, func() (v roster.Verdict) {
		v, more = c.subs.release(b)
		if err != nil && v != roster.Unwanted {
			decoder.logDropped(b.Group(), err)
			c.delivery.trail.Dropped(b.Group(), h.Head.Position, event.Reason(err))
		}
		return v
	})
	return more
}

// gapReason returns why there is a gap before the events of an answer.
func (f *answer) gapReason() string {
	switch {
	case f.err != nil:
		return trail.GapUnread
	case !f.complete:
		return trail.GapIncomplete
	default:
		return trail.GapNotRecorded
	}
}
