package task

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redistime"
)

// ErrStuck is returned by Run if handlers ignored the end of their context and are still running.
var ErrStuck = errors.New("task: handlers did not return")

// Worker runs handlers for the tasks of its kinds. Any number of workers share the work.
type Worker struct {
	client  redis.Cmdable
	keys    keyspace.Keyspace
	dir     orgctx.Directory
	kinds   map[string]Kind
	opt     Options
	metrics *workerMetrics
	clocks  *redistime.Clocks

	finish, progress, take, hold, tidy, nextEntry, back *redis.Script
}

// NewWorker returns a Worker for the kinds in the map, which must not be changed afterwards. The
// client needs a connection for each kind in addition to those that handlers use. Like all
// constructors of this package, NewWorker refuses a client without deadlines. The caller closes the
// client.
func NewWorker(client redis.Cmdable, keys keyspace.Keyspace, dir orgctx.Directory, kinds map[string]Kind, o Options) (*Worker, error) {
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
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	w := &Worker{
		client: client, keys: keys, dir: dir, kinds: kinds, opt: o, metrics: newWorkerMetrics(o.Registerer, kinds),
		clocks: redistime.New(client, o.Log),
		finish: script("finish"), progress: script("progress"), take: script("take"), hold: script("hold"), tidy: script("tidy"),
		nextEntry: script("next"), back: script("back"),
	}
	return w, w.registerCounts(o.Registerer)
}

// Run works until ctx ends. Running handlers then have [Options.Drain] to finish. The contexts of
// those that do not are canceled, and other workers can take their tasks at once. Run survives
// outages of Redis. The error is nil or [ErrStuck].
func (w *Worker) Run(ctx context.Context) error {
	// Work must not end with ctx, and inherits no organization from the caller of Run.
	working, cut := context.WithCancelCause(orgctx.Without(context.WithoutCancel(ctx)))
	defer cut(errStopping)
	if w.opt.Tools != nil {
		working = WithTools(working, w.opt.Tools)
	}
	var wg sync.WaitGroup
	for name, kind := range w.kinds {
		q := &queue{
			Worker: w, name: name, kind: kind, stream: w.keys.Tasks(name), slots: make(chan struct{}, w.opt.Concurrency),
			log: w.opt.Log.With(zap.String("kind", name)), running: make(map[string]bool), share: make(map[orgctx.ID]int),
		}
		wg.Go(func() { q.run(ctx, working) })
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
