package pubsub

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	// catchUpBatch is how many histories at most are asked in one round trip, and catchUpFew for how many
	// events each. Most have missed fewer; those that have not are asked again, one by one.
	catchUpBatch = 128
	catchUpFew   = 32
	// catchUpFirst is with how many it begins: there are twice as many the next time, and half as many if
	// the answers had more than catchUpBytes.
	catchUpFirst = 16
	catchUpBytes = 8 << 20
	// catchUpMost is more than a history of the default length keeps, and catchUpMostBytes what is read of one
	// at most, so that a few of large events do not fill the memory of the node.
	catchUpMost      = 2 * DefaultMaxLength
	catchUpMostBytes = 64 << 20
	// catchUpAttempts is how often a history is asked before the group is told of a gap instead.
	catchUpAttempts = 4
	catchUpPause    = 100 * time.Millisecond
	// maxHeld is how many bytes of a group are held while it catches up. What is beyond is read from
	// the history, too.
	maxHeld = 1 << 20
)

// place is where a subscription stands in the history of its group. Redis.mu guards it.
//
// Before each SUBSCRIBE of a group whose place is not known, its history's newest position is read;
// from then on every recorded event that arrives moves the mark. When the group has missed events,
// which shows at the confirmation of its next SUBSCRIBE, catchUp reads the history from the mark on.
// What arrives meanwhile is held, and follows without what the history had.
type place struct {
	known bool       // mark is valid
	mark  event.Mark // the last recorded event handed over, or the newest when it was subscribed
	lost  bool       // what was missed cannot be known, because the mark was not
	// transient says that an event came that was not recorded: if some were missed, no history tells.
	transient bool

	seen seen // the newest positions handed over, for when the mark is not in the history
	// broken says that a gap was told because the mark is not in the history: the next position may lie
	// before it.
	broken bool

	catching bool
	round    int // counts how often it began or ceased to catch up
	held     []holding
	bytes    int            // of held
	spilled  bool           // held was too much and dropped: the history has to be read again
	passed   event.Position // the newest that was read; what comes up to it on the channel is known
}

// holding is an event that waits.
type holding struct {
	head     event.Head
	object   string
	received time.Time
}

// lagging is a subscription that has to catch up.
type lagging struct {
	sub   *subscription
	round int
	mark  event.Mark
	seen  []event.Position // oldest first; copied only for a group whose mark is not in the history
}

// note moves the mark to an event that is handed over. It returns verdictKnown or verdictRepeated if it
// was handed over before, and verdictLost if it lies before the mark: within one history positions only
// grow, so that one is gone, and its members have to be told. r.mu is held.
func (s *subscription) note(h event.Head) verdict {
	p := &s.place
	if h.Position.IsZero() {
		p.transient = true
		return verdictTake
	}
	if !p.passed.IsZero() {
		if h.Position.Compare(p.passed) <= 0 {
			return verdictKnown
		}
		p.passed = event.Position{} // they come in order, so nothing known follows
	}
	if _, ok := s.meter.shown.repeats(&s.shown, h); ok {
		return verdictRepeated // the mark stays: this position may be in no history
	}
	s.meter.shown.add(&s.shown, h)
	v := verdictTake
	if !p.broken && h.Position.Compare(p.mark.Position) < 0 {
		v = verdictLost
	}
	s.advance(h.Position)
	return v
}

// advance moves the mark. r.mu is held.
func (s *subscription) advance(position event.Position) {
	s.place.mark, s.place.broken = event.Mark{Position: position}, false
	s.place.seen.add(position, s.meter)
}

// take says what becomes of an event that is within the budget. r.mu is held.
func (s *subscription) take(h event.Head, object string, now time.Time) verdict {
	p := &s.place
	switch {
	case !p.catching:
		return s.note(h)
	case p.spilled:
		p.transient = p.transient || h.Position.IsZero()
		return verdictHeld
	}
	p.held = append(p.held, holding{head: h, object: object, received: now})
	if p.bytes += len(object); p.bytes > maxHeld {
		for _, h := range p.held {
			p.transient = p.transient || h.head.Position.IsZero()
		}
		p.held, p.bytes, p.spilled = nil, 0, true
	}
	return verdictHeld
}

// startCatching leaves the subscription to catchUp. r.mu is held.
func (s *subscription) startCatching(l *link) {
	p := &s.place
	p.catching, p.spilled, p.passed = true, false, event.Position{}
	p.round++
	l.behind.push(lagging{sub: s, round: p.round})
	select {
	case l.fetch <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// stopCatching forgets what is held: the subscription ends, or will have to catch up anew. r.mu is
// held.
func (s *subscription) stopCatching() {
	p := &s.place
	for _, h := range p.held {
		p.transient = p.transient || h.head.Position.IsZero()
	}
	p.catching, p.held, p.bytes, p.passed = false, nil, 0, event.Position{}
	p.round++
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
	marks, known := r.marks(ctx, subs)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range subs {
		s.place.known, s.place.mark = known[i], marks[i]
		s.place.lost = s.missed
	}
}

// marks reads the newest position of each history, and the epoch where there is none. An organisation
// without epoch gets one.
func (r *Redis) marks(ctx context.Context, subs []*subscription) (marks []event.Mark, known []bool) {
	pipe := r.client.Pipeline()
	epochs := make(map[orgctx.ID]*redis.StringCmd)
	newest := make([]*redis.XMessageSliceCmd, len(subs))
	for i, s := range subs {
		org := s.group.Organization()
		if epochs[org] == nil { // before the histories: who loses data between the two loses both
			epochs[org] = pipe.Get(ctx, r.keys.Epoch(org))
		}
		newest[i] = pipe.XRevRangeN(ctx, r.keys.History(s.group), "+", "-", 1)
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	marks, known = make([]event.Mark, len(subs)), make([]bool, len(subs))
	created := make(map[orgctx.ID]*redis.StringCmd)
	pipe = r.client.Pipeline()
	for i, s := range subs {
		entries, err := newest[i].Result()
		if err != nil {
			continue
		}
		if known[i] = true; len(entries) > 0 {
			marks[i].Position, err = event.ParsePosition(entries[0].ID)
			known[i] = err == nil
			continue
		}
		org := s.group.Organization()
		if marks[i].Epoch = epochs[org].Val(); marks[i].Epoch == "" && created[org] == nil {
			pipe.Do(ctx, "setnx", r.keys.Epoch(org), rand.Text()) // as the rights of the gateway have it: SET could also overwrite
			created[org] = pipe.Get(ctx, r.keys.Epoch(org))
		}
	}
	if len(created) > 0 {
		_ = redisreply.Exec(ctx, pipe) // without rights there is no epoch, and what begins without one ends in a gap
	}
	for i, s := range subs {
		if c := created[s.group.Organization()]; c != nil && known[i] && marks[i] == (event.Mark{}) {
			marks[i].Epoch = c.Val()
		}
	}
	return marks, known
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
	size := catchUpFirst
	for ctx.Err() == nil {
		batch := r.nextBehind(l, size)
		if len(batch) == 0 {
			select {
			case <-l.fetch:
			case <-ctx.Done():
			}
			continue
		}
		answers := r.missed(ctx, batch, catchUpFew, r.seek)
		if bytesOf(answers) > catchUpBytes {
			size = max(size/2, 1)
		} else {
			size = min(2*size, catchUpBatch)
		}
		for i, f := range answers {
			answers[i] = found{} // not to be kept in memory beside what comes now
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
					r.log.Warn("catch up", zap.Error(f.err), zap.Int("suppressed", suppressed))
				}
			}
			r.hand(l, sink, batch[i], f)
		}
	}
}

// bytesOf returns how much was read.
func bytesOf(answers []found) (bytes int) {
	for _, f := range answers {
		for _, e := range f.events {
			bytes += len(e.Payload())
		}
	}
	return bytes
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
func (r *Redis) seekMost(ctx context.Context, questions []sought) []found {
	return []found{r.seekAll(ctx, questions[0], catchUpMostBytes)}
}

// seekSeen asks a history that does not have the mark for what follows the newest position handed over
// that it has. A master that hung and was replaced passes on, when it wakes up, what its successor
// never had; the mark is then beyond all that the successor recorded meanwhile. f is the answer as to
// the mark, which counts if the history has no position that is remembered.
func (r *Redis) seekSeen(ctx context.Context, b lagging, f found) found {
	r.mu.Lock()
	if b.sub.place.round == b.round {
		b.seen = b.sub.place.seen.list()
	}
	r.mu.Unlock()
	if len(b.seen) == 0 {
		return f
	}
	oldest := slices.MinFunc(b.seen, event.Position.Compare)
	deadline, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	entries, _, err := r.newest(deadline, b.sub.group, oldest.String(), catchUpMost, catchUpMostBytes)
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
func (r *Redis) missed(ctx context.Context, batch []lagging, limit int, seek func(context.Context, []sought) []found) []found {
	questions := make([]sought, len(batch))
	for i, b := range batch {
		questions[i] = sought{group: b.sub.group, mark: b.mark, limit: limit, epoch: true}
	}
	answers := make([]found, len(batch))
	open := make([]int, len(batch)) // those without an answer
	for i := range open {
		open[i] = i
	}
	for attempt := 1; ; attempt++ {
		ask := make([]sought, len(open))
		for i, n := range open {
			ask[i] = questions[n]
		}
		deadline, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
		got := seek(deadline, ask)
		cancel()
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

// hand gives the Sink what a group has missed, a gap before it if that is not everything, and what was
// held meanwhile. It ends early if the group is paused or left.
func (r *Redis) hand(l *link, sink Sink, b lagging, f found) {
	s, p := b.sub, &b.sub.place
	// current reports whether it still is this catching up that the group waits for.
	current := func() bool { return p.round == b.round && s.count > 0 }

	r.mu.Lock()
	gap := f.err != nil || !f.complete || p.transient || b.mark.Position.IsZero() && len(f.events) == 0
	ok := current()
	if ok {
		s.missed = false
		p.broken = gap && !f.complete
		s.meter.owe(time.Now(), r.tariff, f.events)
	}
	r.mu.Unlock()
	if ok && gap {
		r.gap(sink, s.group)
	}
	for _, e := range f.events {
		if !r.handOne(sink, b, e) {
			break
		}
	}
	for {
		r.mu.Lock()
		switch {
		case p.round != b.round:
			r.mu.Unlock()
			return
		case p.spilled && s.count > 0: // what was held and more is in the history
			s.missed = true
			s.startCatching(l)
			r.mu.Unlock()
			return
		case len(p.held) == 0:
			p.catching = false
			r.mu.Unlock()
			return
		}
		h := p.held[0]
		p.held = p.held[1:]
		p.bytes -= len(h.object)
		verdict := s.note(h.head)
		wanted := s.count > 0
		r.mu.Unlock()
		switch {
		case verdict == verdictRepeated:
			r.metrics.repeated.Inc()
		case verdict == verdictLost && wanted:
			r.gap(sink, s.group)
			r.take(sink, s.group, h.head, h.object, h.received)
		case verdict == verdictTake && wanted:
			r.take(sink, s.group, h.head, h.object, h.received)
		}
	}
}

// handOne gives the Sink one event of a history, unless the group does not wait for it any more. It asks
// in its turn to deliver: what another link brings after the group has moved there comes after this.
func (r *Redis) handOne(sink Sink, b lagging, e *event.Event) bool {
	s, p := b.sub, &b.sub.place
	r.delivery.Lock()
	defer r.delivery.Unlock()
	r.mu.Lock()
	ok := p.round == b.round && s.count > 0
	repeated := false
	if ok {
		s.advance(e.Position())
		p.passed = e.Position()
		head := event.Head{Position: e.Position(), Key: e.Key()}
		if _, repeated = s.meter.shown.repeats(&s.shown, head); !repeated {
			s.meter.shown.add(&s.shown, head)
		}
	}
	r.mu.Unlock()
	switch {
	case repeated:
		r.metrics.repeated.Inc()
	case ok:
		r.metrics.caughtUp.Inc()
		r.metrics.received.Inc()
		sink.Deliver(e)
	}
	return ok
}

// owe charges the budget for events read from a history. r.mu is held.
func (m *meter) owe(now time.Time, t tariff, events []*event.Event) {
	for _, e := range events {
		if m.paid.Before(now) {
			m.paid = now
		}
		m.paid = m.paid.Add(t.cost(len(e.Payload())))
	}
}
