package task

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redistime"
)

const (
	// retryMost is the longest pause before Redis is asked again after an error.
	retryMost = 5 * time.Second
	// goneAfter is the silence after which a consumer that holds nothing is forgotten.
	goneAfter = time.Hour
)

// ErrStuck is returned by Run if handlers ignored the end of their context, so that their
// goroutines are still there.
var ErrStuck = errors.New("task: handlers did not return")

// Worker runs handlers for the tasks of its kinds. Any number of workers share the work.
type Worker struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	dir     orgctx.Directory
	kinds   map[string]Kind
	opt     Options
	metrics *workerMetrics
	clocks  *redistime.Clocks

	finish, progress, take, hold, tidy *redis.Script
}

// NewWorker returns a Worker for the kinds of the map, which must not change any more. The client needs a
// connection for each kind in addition to those that handlers use. Like all constructors of this package NewWorker
// refuses a client that keeps no deadlines. The caller closes the client.
func NewWorker(client redis.UniversalClient, keys keyspace.Keyspace, dir orgctx.Directory, kinds map[string]Kind, o Options) (*Worker, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	if len(kinds) == 0 {
		return nil, errors.New("task: a worker needs at least one kind")
	}
	for name, kind := range kinds {
		if !orgctx.ValidID(name) || kind.Run == nil {
			return nil, fmt.Errorf("%w: kind %q", ErrMalformed, name)
		}
	}
	o.complete()
	return &Worker{
		client: client, keys: keys, dir: dir, kinds: kinds, opt: o, metrics: newWorkerMetrics(o.Registerer, kinds),
		clocks: redistime.New(client, o.Log),
		finish: script("finish"), progress: script("progress"), take: script("take"), hold: script("hold"), tidy: script("tidy"),
	}, nil
}

// Run works until ctx ends. Running handlers then have [Options.Drain] to finish; those that do not
// are cut, and their tasks are free for other workers at once. Redis may come and go. The error is
// nil or [ErrStuck].
func (w *Worker) Run(ctx context.Context) error {
	// Work must not end with ctx, and inherits no organization from whoever runs the worker.
	working, cut := context.WithCancelCause(orgctx.Without(context.WithoutCancel(ctx)))
	defer cut(errStopping)
	if w.opt.Tools != nil {
		working = WithTools(working, w.opt.Tools)
	}
	var wg sync.WaitGroup
	for name, kind := range w.kinds {
		q := &queue{
			Worker: w, name: name, kind: kind, stream: w.keys.Tasks(name), slots: make(chan struct{}, w.opt.Concurrency),
			log: w.opt.Log.With(zap.String("kind", name)), running: make(map[string]bool),
		}
		wg.Go(func() { q.serve(ctx, working) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done: // only after ctx's end
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	case <-time.After(w.opt.Poll + w.opt.Drain):
	}
	cut(errStopping)
	select {
	case <-done:
		return nil
	case <-time.After(w.opt.Grace + 2*redisTimeout):
		return ErrStuck
	}
}

// queue is the tasks of one kind, as one worker sees them.
type queue struct {
	*Worker
	name   string
	kind   Kind
	stream string
	slots  chan struct{} // as many as may run
	log    *zap.Logger

	looked time.Time // when there was last nothing to take over; of serve alone

	mu      sync.Mutex
	running map[string]bool // entries that are being worked on here
}

// entry is an entry of the stream, delivered to this worker.
type entry struct {
	id         string
	deliveries int // with this one
	fields     map[string]string
}

// serve hands entries to goroutines of its own, and returns when ctx has ended and they have too.
func (q *queue) serve(ctx, working context.Context) {
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
		if err != nil || e == nil {
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
		if !q.begin(e.id) {
			// Ours already: this process was silent for too long, and lives. That is no delivery.
			q.release(working, q.log, e, &again{delay: q.opt.Takeover, deliveries: e.deliveries - 1})
			<-q.slots
			continue
		}
		wg.Go(func() {
			defer func() { <-q.slots }()
			log := q.log.With(zap.String("entry", e.id), zap.Int("delivery", e.deliveries))
			next := q.process(working, log, e)
			q.end(e.id) // before anyone may take it again
			if next != nil {
				q.release(working, log, e, next)
			}
		})
	}
}

// begin notes that an entry is worked on. It reports whether that is new.
func (q *queue) begin(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[id] {
		return false
	}
	q.running[id] = true
	return true
}

func (q *queue) end(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, id)
}

// next returns an entry, or nil if there is none for a while. Entries to take over come first:
// they have waited longer.
func (q *queue) next(ctx context.Context) (*entry, error) {
	if time.Since(q.looked) >= q.opt.Poll {
		e, err := q.takeOver(ctx)
		if e != nil || err != nil {
			return e, q.createGroup(ctx, err)
		}
		q.looked = time.Now()
	}
	// What Redis has delivered must be seen, so the end of ctx does not interrupt the question.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.opt.Poll+redisTimeout)
	defer cancel()
	streams, err := q.client.XReadGroup(asking, &redis.XReadGroupArgs{
		Group: consumerGroup, Consumer: q.opt.Name, Streams: []string{q.stream, ">"}, Count: 1, Block: q.opt.Poll,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil //nolint:nilnil // nothing to do is no error
	case err != nil:
		return nil, q.createGroup(ctx, err)
	case len(streams) == 0 || len(streams[0].Messages) == 0:
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	m := streams[0].Messages[0]
	e := &entry{id: m.ID, deliveries: 1, fields: make(map[string]string, len(m.Values))}
	for name, value := range m.Values {
		e.fields[name], _ = value.(string)
	}
	return e, nil
}

// takeOver claims an entry whose worker is silent, or whose next attempt is due.
func (q *queue) takeOver(ctx context.Context) (*entry, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := q.take.Run(ctx, q.client, []string{q.stream}, consumerGroup, q.opt.Name, q.opt.Takeover.Milliseconds()).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	if err != nil || len(answer) != 3 {
		return nil, err
	}
	q.metrics.takenOver.WithLabelValues(q.name).Inc()
	id, _ := answer[0].(string)
	deliveries, _ := answer[1].(int64)
	flat, _ := answer[2].([]any)
	e := &entry{id: id, deliveries: int(deliveries), fields: make(map[string]string, len(flat)/2)}
	for i := 0; i+1 < len(flat); i += 2 {
		name, _ := flat[i].(string)
		e.fields[name], _ = flat[i+1].(string)
	}
	return e, nil
}

// createGroup makes stream and consumer group if err says that they are missing, as at first and
// after a Redis came back empty. It returns any other error.
func (q *queue) createGroup(ctx context.Context, err error) error {
	if err == nil || !strings.Contains(err.Error(), "NOGROUP") {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = q.client.XGroupCreateMkStream(ctx, q.stream, consumerGroup, "0").Err()
	if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return nil // another worker was faster
	}
	return err
}

// leave takes this worker out of the list of consumers, and those that left without a word.
func (q *queue) leave(ctx context.Context) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_ = q.tidy.Run(ctx, q.client, []string{q.stream}, consumerGroup, goneAfter.Milliseconds(), q.opt.Name).Err() // the next one will
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
	return d - rand.N(d/2+1) //nolint:gosec // no secret
}
