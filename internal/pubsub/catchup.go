package pubsub

import (
	"context"
	"slices"
	"time"

	"orgcast/internal/event"

	"go.uber.org/zap"
)

const (
	// catchUpBatch is how many histories at most are asked in one round trip, and catchUpFew for how many
	// events each at most. Groups that have missed more are asked again, fewer at a time and at last one by one.
	catchUpBatch = 128
	catchUpFew   = 32
	// stateEntries is how many entries come with the state of a history: its first and its last.
	stateEntries = 2
	// catchUpMost is more than a history of the default length keeps, and catchUpMostBytes what is read of one
	// at most, so that a few of large events do not fill the memory of the node.
	catchUpMost      = 2 * event.DefaultHistoryLength
	catchUpMostBytes = 64 << 20
	// catchUpAttempts is how often a history is asked before the group is told of a gap instead.
	catchUpAttempts = 4
	catchUpPause    = 100 * time.Millisecond
)

// lagging is a subscription that has to catch up.
type lagging struct {
	sub   *subscription
	round int
	mark  event.Mark
	seen  []event.Position // oldest first; copied only for a group whose mark is not in the history
}

// locate reads the places of those groups whose place is not known, before they are subscribed.
// Where that fails, losses of the group will be gaps.
func (r *Redis) locate(ctx context.Context, batches []batch) {
	var subs []*subscription
	r.mu.Lock()
	for _, b := range batches {
		for _, channel := range b.channels {
			if s := r.subs[channel]; s != nil && s.state == stateSent && !s.place.known {
				subs = append(subs, s)
			}
		}
	}
	r.mu.Unlock()
	if len(subs) == 0 {
		return
	}
	// Confirmations must not look overdue for it.
	ctx, cancel := context.WithTimeout(ctx, r.opt.LinkTimeout/2)
	defer cancel()
	groups := make([]event.Group, len(subs))
	for i, s := range subs {
		groups[i] = s.group
	}
	marks, known := r.marks(ctx, groups)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range subs {
		s.place.known, s.place.mark = known[i], marks[i]
		s.place.lost = s.missed
	}
}

// Mark returns the place from which a client that has received what the Sink has can resume the
// group. ok is false if that is not known.
func (r *Redis) Mark(g event.Group) (m event.Mark, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[r.keys.GroupChannel(g)]
	if s == nil || !s.place.known || s.place.mark == (event.Mark{}) {
		return event.Mark{}, false
	}
	return s.place.mark, true
}

// catchUp hands over what groups have missed, from their histories, until ctx ends.
func (r *Redis) catchUp(ctx context.Context, l *link, sink Sink) {
	trouble := logLimiter{interval: logInterval}
	most := min(catchUpBatch, max(r.entriesAtOnce()/(2+stateEntries), 1)) // two are the mark and one event
	for ctx.Err() == nil {
		batch := r.nextBehind(l, most)
		if len(batch) == 0 {
			select {
			case <-l.fetch:
			case <-ctx.Done():
			}
			continue
		}
		r.bringUp(ctx, l, sink, batch, &trouble)
	}
}

// bringUp hands over what some groups have missed. The fewer they are the more each may have missed.
func (r *Redis) bringUp(ctx context.Context, l *link, sink Sink, batch []lagging, trouble *logLimiter) {
	limit := min(catchUpFew, max(r.entriesAtOnce()/len(batch)-stateEntries-1, 1)) // one more is read
	var more []lagging
	answers := r.missed(ctx, batch, limit, r.seek)
	for i, f := range answers {
		answers[i] = answer{} // not to be kept in memory beside what comes now
		if f.more && limit < catchUpFew && len(batch) > 1 {
			more = append(more, batch[i])
			continue
		}
		if f.more {
			f = r.missed(ctx, batch[i:i+1], catchUpMost, r.seekMost)[0]
		}
		if f.err == nil && !f.complete && !f.more && !batch[i].mark.Position.IsZero() {
			f = r.seekSeen(ctx, batch[i], f)
		}
		if ctx.Err() != nil {
			return // the groups will catch up on the next link
		}
		if f.err != nil {
			if suppressed, ok := trouble.allow(time.Now()); ok {
				r.log.Warn("reading missed events failed", zap.Error(f.err), zap.Int("suppressed", suppressed))
			}
		}
		r.hand(l, sink, batch[i], f)
	}
	for fewer := range slices.Chunk(more, max(len(batch)/4, 1)) {
		r.bringUp(ctx, l, sink, fewer, trouble)
	}
}

// nextBehind takes up to so many groups that have to catch up.
func (r *Redis) nextBehind(l *link, most int) (batch []lagging) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(batch) < most {
		b, ok := l.behind.pop()
		if !ok {
			break
		}
		if b.sub.place.round == b.round {
			b.mark = b.sub.place.mark
			batch = append(batch, b)
		}
	}
	return batch
}

// seekMost asks one history for more than seek is fit for.
func (r *Redis) seekMost(ctx context.Context, questions []query) []answer {
	return []answer{r.seekAll(ctx, questions[0], catchUpMostBytes)}
}

// seekSeen asks a history that does not have the mark for what follows the newest position handed over
// that it has. A master that hung and was replaced passes on, when it wakes up, what its successor
// never had; the mark is then beyond all that the successor recorded meanwhile. f is the answer as to
// the mark, which counts if the history has no position that is remembered.
func (r *Redis) seekSeen(ctx context.Context, b lagging, f answer) answer {
	r.mu.Lock()
	if b.sub.place.round == b.round {
		b.seen = b.sub.place.seen.list()
	}
	r.mu.Unlock()
	if len(b.seen) == 0 {
		return f
	}
	oldest := slices.MinFunc(b.seen, event.Position.Compare)
	entries, _, err := r.newest(ctx, b.sub.group, oldest.String(), catchUpMost, catchUpMostBytes)
	if err != nil {
		f.err = err
		return f
	}
	at := make(map[string]int, len(entries))
	for i, e := range entries {
		at[e.ID] = i
	}
	for _, seen := range slices.Backward(b.seen) {
		end, ok := at[seen.String()]
		if !ok {
			continue
		}
		// All that the group was handed later is not in the history, so nothing comes twice.
		f.events = r.decodeEntries(b.sub.group, entries[:end], event.Head{Position: seen, Key: keyOf(entries[end])})
		return f
	}
	return f
}

// missed asks histories, and those that do not answer again.
func (r *Redis) missed(ctx context.Context, batch []lagging, limit int, seek func(context.Context, []query) []answer) []answer {
	questions := make([]query, len(batch))
	for i, b := range batch {
		questions[i] = query{group: b.sub.group, mark: b.mark, limit: limit, epoch: true, skim: limit <= catchUpFew}
	}
	answers := make([]answer, len(batch))
	open := make([]int, len(batch)) // those without an answer
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
