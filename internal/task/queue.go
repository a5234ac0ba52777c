package task

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/orgctx"
)

const (
	// retryMost is the longest pause before Redis is asked again after an error.
	retryMost = 5 * time.Second
	// goneAfter is the silence after which a consumer without entries is removed.
	goneAfter = time.Hour
)

// queue is one worker's view of the tasks of one kind.
type queue struct {
	*Worker
	name   string
	kind   Kind
	stream string
	slots  chan struct{} // its capacity is how many tasks may run
	log    *zap.Logger

	mu      sync.Mutex
	running map[string]bool   // entries that this worker is processing
	share   map[orgctx.ID]int // how many of them each organization has
	looked  time.Time         // when run last looked for entries to take over
	found   bool              // and found one
	waiting time.Time         // until when run may wait for an entry of the stream; zero if it does not wait
}

// entry is an entry of the stream, delivered to this worker.
type entry struct {
	id         string
	deliveries int // of this entry, including this one
	before     int // of the task, before it was put back into its line
	org        orgctx.ID
	fields     map[string]string
}

// newEntry returns an entry from a script's result.
func newEntry(id string, deliveries int, flat []any) *entry {
	e := &entry{id: id, deliveries: deliveries, fields: make(map[string]string, len(flat)/2)}
	for i := 0; i+1 < len(flat); i += 2 {
		name, _ := flat[i].(string)
		e.fields[name], _ = flat[i+1].(string)
	}
	e.complete()
	return e
}

// mostBefore bounds the count of earlier deliveries, which an entry itself contains.
const mostBefore = 1_000_000

// complete sets the fields that the queue needs of an entry. An entry without an organization has
// no share, and decode refuses it.
func (e *entry) complete() {
	e.org, _ = orgctx.ParseID(e.fields[fieldOrganization])
	if before, err := strconv.Atoi(e.fields[fieldBefore]); err == nil && before > 0 && before <= mostBefore {
		e.before = before
	}
}

// dispatched returns when the task was dispatched, if a script recorded that.
func (e *entry) dispatched() (at time.Time, ok bool) {
	ms, err := strconv.ParseInt(e.fields[fieldDispatched], 10, 64)
	return time.UnixMilli(ms), err == nil
}

// attempts returns the number of this delivery of the task, from 1.
func (e *entry) attempts() int { return e.before + e.deliveries }

// claim is the result of markRunning.
type claim int

const (
	marked    claim = iota
	duplicate       // this worker is processing it already
	overShare       // its organization has its full share of the slots
)

// markRunning marks an entry as running, unless it must not run.
func (q *queue) markRunning(e *entry) claim {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.running[e.id]:
		return duplicate
	case !e.org.IsZero() && q.share[e.org] >= q.most():
		return overShare
	}
	q.running[e.id] = true
	if !e.org.IsZero() {
		q.share[e.org]++
	}
	return marked
}

func (q *queue) end(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, e.id)
	if e.org.IsZero() {
		return
	}
	if q.share[e.org]--; q.share[e.org] == 0 {
		delete(q.share, e.org)
	}
}

// most is how many slots one organization may occupy.
func (q *queue) most() int {
	return min(max(int(q.opt.Share*float64(q.opt.Concurrency)), 1), q.opt.Concurrency)
}

// passed returns the organizations that occupy their full share of the slots.
func (q *queue) passed() (orgs []any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for org, n := range q.share {
		if n >= q.most() {
			orgs = append(orgs, org.String())
		}
	}
	return orgs
}

// run passes entries to its goroutines, and returns after ctx and they have ended.
func (q *queue) run(ctx, working context.Context) {
	var wg sync.WaitGroup
	defer q.leave(working)
	defer wg.Wait()
	broken := 0 // errors in a row
	for {
		select {
		case q.slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
		e, err := q.next(ctx)
		if err != nil || !q.accept(working, e) {
			<-q.slots
			if err == nil {
				broken = 0
				continue
			}
			if broken++; broken == 1 {
				q.log.Warn("cannot read tasks", zap.Error(err))
			}
			pause(ctx, jitter(min(q.opt.Backoff<<min(broken-1, 10), retryMost)))
			continue
		}
		if broken > 0 {
			q.log.Info("reading tasks again")
			broken = 0
		}
		wg.Go(func() {
			defer func() { <-q.slots }()
			for e := e; e != nil; e = q.another(ctx, working) {
				q.work(working, e)
			}
		})
	}
}

// accept reports whether this worker should process an entry. Otherwise it gives the entry back. e
// may be nil.
func (q *queue) accept(working context.Context, e *entry) bool {
	if e == nil {
		return false
	}
	claim := q.markRunning(e)
	switch claim {
	case marked:
	case duplicate:
		// This worker took over its own entry, after it was silent for too long. That does not
		// count as a delivery.
		q.giveBack(working, q.log, e, &again{delay: q.opt.Takeover, deliveries: e.deliveries - 1})
	case overShare:
		q.putBack(working, e)
	}
	return claim == marked
}

// another returns the next entry for a slot that has become free. It returns nil if there is none
// now, and then run waits for one. It must look for tasks of organizations that had their full
// share, because run may be waiting for tasks of the others.
func (q *queue) another(ctx, working context.Context) *entry {
	for ctx.Err() == nil {
		e, err := q.look(ctx, 0)
		if err != nil || e == nil { // run meets the error too
			return nil
		}
		if q.accept(working, e) {
			return e
		}
	}
	return nil
}

// work processes an accepted entry.
func (q *queue) work(working context.Context, e *entry) {
	log := q.log.With(zap.String("entry", e.id), zap.Int("delivery", e.attempts()))
	next := q.process(working, log, e)
	q.end(e) // before anyone may take it again
	if next != nil {
		q.giveBack(working, log, e, next)
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// jitter shortens d at random by up to a half.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/2+1) //nolint:gosec // not a secret
}
