package app

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/admin"
	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
	"orgcast/internal/quota"
	"orgcast/internal/task"
)

// WorkerOptions are the options of a worker. It uses some of a gateway's options.
type WorkerOptions struct {
	Options

	// Concurrency is how many tasks of each kind run at a time. Attempts is how often each is
	// tried. Share is the part of Concurrency that tasks of one organization may occupy.
	Concurrency, Attempts int
	Share                 float64
	// Timeout bounds one run. Backoff is the pause after the first failure. Takeover is the silence
	// after which a worker counts as dead. Drain is how long running tasks may continue when the
	// worker stops.
	Timeout, Backoff, Takeover, Drain time.Duration
}

// taskOptions returns the limits for the worker.
func (w *WorkerOptions) taskOptions() task.Options {
	o := task.Options{
		Concurrency: w.Concurrency, Share: w.Share, Attempts: w.Attempts, Timeout: w.Timeout,
		Backoff: w.Backoff, Takeover: w.Takeover, Drain: w.Drain,
	}
	if o.Drain == 0 {
		o.Drain = time.Nanosecond // in task.Options, zero means the default
	}
	return o
}

// workerKinds returns the kinds of task that `gateway worker` runs. Add a new kind here.
func workerKinds() map[string]task.Kind {
	return map[string]task.Kind{
		"echo": {Run: echo},
	}
}

// echo returns the payload.
func echo(ctx context.Context, job *task.Job) (any, error) {
	err := job.Progress(ctx, map[string]any{"type": "echo_progress", "task_id": job.ID, "attempt": job.Attempt})
	if err != nil {
		return nil, err
	}
	return struct {
		Type   string          `json:"type"`
		TaskID string          `json:"task_id"`
		Result json.RawMessage `json:"result"`
	}{"task_complete", job.ID, job.Payload}, nil
}

// NewQueues returns an operator's view of the tasks of all kinds. Retried tasks may exceed the
// limits of their organization.
func NewQueues(clients *Clients, keys keyspace.Keyspace) (*task.Queues, error) {
	limits := quota.NewTasks(clients.State, keys, quota.TaskLimit{Weight: 1}, nil)
	return task.NewQueues(clients.Events, keys, task.DispatcherOptions{Limit: func(ctx context.Context, org orgctx.ID) task.Limit {
		return task.Limit{Weight: limits.Limit(ctx, org).Weight}
	}})
}

// Work runs tasks until ctx ends.
func Work(ctx context.Context, o *WorkerOptions, p Process) (err error) {
	undo := newStack()
	defer func() { err = errors.Join(err, undo.unwind()) }()
	keys, err := o.Keyspace()
	if err != nil {
		return err
	}
	kinds, reloads := workerKinds(), new(reloadSteps)
	registry := prometheus.NewRegistry()
	tracer := startTracing(&o.Options, p.Log, registry, undo)
	calls := outgoing.New(outgoing.Options{Registerer: registry, Tracer: tracer})
	undo.add("calls to hooks", undoTimeout, func(context.Context) error { calls.Close(); return nil })
	if err := o.addHooks(kinds, &hooks{client: calls, log: p.Log}, reloads); err != nil {
		return err
	}
	// For each kind, one connection waits for entries, and each task may need one.
	clients, err := o.Connect((len(kinds) + o.Extension.kindCount()) * (o.Concurrency + 2))
	if err != nil {
		return err
	}
	undo.add("Redis", undoTimeout, func(context.Context) error {
		_ = clients.Close() // everything has been sent by then
		return nil
	})
	Follow(clients.Events)
	dir, err := newDirectory(&o.Options, clients, keys)
	if err != nil {
		return err
	}
	objects, err := directory.NewObjects(clients.Events, keys, p.Log)
	if err != nil {
		return err
	}
	tools, err := o.Extension.addKinds(kinds, Parts{Objects: objects, Directory: dir})
	if err != nil {
		return err
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.Journal.Register(registry)
	newBuildInfo(registry, p.Build)
	to := o.taskOptions()
	to.MaxEvent, to.Log, to.Registerer = o.MaxEvent, p.Log, registry
	to.Tracer = tracer
	to.Tools = task.NewTools(clients.Events, keys, dir, tools)
	w, err := task.NewWorker(clients.Events, keys, dir, kinds, to)
	if err != nil {
		return err
	}
	private, err := bind(ctx, "--admin-listen", o.AdminListen, undo)
	if err != nil {
		return err
	}
	private.server = NewHTTPServer(admin.New(admin.Options{Metrics: registry, Ready: map[string]admin.Check{
		"redis": func(ctx context.Context) error {
			return errors.Join(clients.Events.Ping(ctx).Err(), clients.State.Ping(ctx).Err())
		},
	}}), p.Log)
	reloads.addCertificates(clients.prepareReload)
	again := p.reloads(&o.Options, reloads, registry)
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { again.run(ctx, p.Hangups); return nil })
	running.Go(func() error { again.watch(ctx); return nil })
	running.Go(func() error { return Served(private.server.Serve(private)) })
	running.Go(func() error {
		err := w.Run(ctx)
		return errors.Join(err, private.server.Close())
	})
	p.Log.Info("working", zap.String("version", p.Build.Version), zap.Stringer("private", private.Addr()), zap.String("directory", o.DirectoryKind()))
	err = running.Wait()
	p.Log.Info("stopped")
	return err
}
