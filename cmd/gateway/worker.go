package main

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
	"orgcast/internal/config"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/task"
)

const workerUsage = `
Run tasks from Redis, each under its own organisation. Any number of workers share the work; one
that dies is replaced by the others. docs/tasks.md has the form of a task, for workers and
dispatchers in other languages.

Built in is the kind "echo", which gives back what it was given, for trying the way there and back:

  gateway worker --directory session
  redis-cli XADD orgcast:tasks:echo '*' organization_id acme kind echo id t1 group all payload '{"text":"hello"}'

Connections of acme that listen to the group all get {"type":"echo_progress",…} and then
{"type":"task_complete","task_id":"t1","result":{"text":"hello"},…}.

SIGINT or SIGTERM: running tasks may finish within --worker-drain, the rest go to other workers at
once. A second one ends the process, and its tasks are taken over after --worker-takeover. SIGHUP
reads the files of certificates and passwords again; running tasks are not disturbed.
`

// workerSettings are those of the worker alone.
type workerSettings struct {
	concurrency, attempts              int
	timeout, backoff, takeover, drains time.Duration
}

func (w *workerSettings) declare(set *config.Set) {
	set.Int(&w.concurrency, "worker-concurrency", 8, 1, "tasks of each kind that run at a time")
	set.Int(&w.attempts, "worker-attempts", 5, 1, "attempts before a task is given up")
	set.Duration(&w.timeout, "worker-timeout", 5*time.Minute, time.Second, "maximum time for one run of a task")
	set.Duration(&w.backoff, "worker-backoff", time.Second, time.Millisecond, "pause after a task's first failure; it doubles with each, up to --worker-takeover")
	set.Duration(&w.takeover, "worker-takeover", 30*time.Second, time.Second, "silence after which a worker counts as dead; a live one reports three times as often")
	set.Duration(&w.drains, "worker-drain", 10*time.Second, 0, "after SIGTERM, how long running tasks may take to finish")
}

// options takes the settings over.
func (w *workerSettings) options() task.Options {
	o := task.Options{
		Concurrency: w.concurrency, Attempts: w.attempts, Timeout: w.timeout,
		Backoff: w.backoff, Takeover: w.takeover, Drain: w.drains,
	}
	if o.Drain == 0 {
		o.Drain = time.Nanosecond // there zero is the default
	}
	return o
}

// workerKinds says which kinds of task `gateway worker` runs. A new kind is a line here.
func workerKinds() map[string]task.Kind {
	return map[string]task.Kind{
		"echo": {Run: echo},
	}
}

// echo gives the payload back.
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

// declareWorker declares all settings of the worker.
func (s *settings) declareWorker(set *config.Set, own *workerSettings) {
	s.declareLogging(set)
	s.declareRedis(set)
	s.declareState(set)
	set.Choice(&s.directory, "directory", "redis", []string{"redis", "session"},
		"source of truth for active organizations: hashes in Redis, or none, so that all are active")
	set.String(&s.adminListen, "admin-listen", "127.0.0.1:9091", "address of the private listener: health, metrics, profiles", checkAddress)
	set.Int(&s.maxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	own.declare(set)
}

func workerCommand(ctx context.Context, p *process, args []string) error {
	s, own := new(settings), new(workerSettings)
	set := config.New("worker", workerUsage)
	s.declareWorker(set, own)
	if rest, err := p.parse(set, args, s.checkRedis); err != nil || len(rest) > 0 {
		return p.surplus(rest, err)
	}
	log, err := newLogger(s, p.journal)
	if err != nil {
		return err
	}
	keys, err := s.keyspace()
	if err != nil {
		return err
	}
	// A connection for each kind waits for entries, and each task may need one of its own.
	kinds := workerKinds()
	clients, err := s.connect(len(kinds) * (own.concurrency + 2))
	if err != nil {
		return err
	}
	defer func() { _ = clients.Close() }() // everything is sent by then
	follow(clients.events)
	var dir directory.Directory = directory.TrustSession{}
	if s.directory == "redis" {
		if dir, err = directory.NewRedis(clients.state, keys); err != nil {
			return err
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.journal.Register(registry)
	o := own.options()
	o.MaxEvent, o.Log, o.Registerer = s.maxEvent, log, registry
	w, err := task.NewWorker(clients.events, keys, dir, kinds, o)
	if err != nil {
		return err
	}
	private, err := listen(ctx, "--admin-listen", s.adminListen)
	if err != nil {
		return err
	}
	server := newHTTPServer(admin.New(admin.Options{Metrics: registry, Ready: map[string]admin.Check{
		"redis": func(ctx context.Context) error {
			return errors.Join(clients.events.Ping(ctx).Err(), clients.state.Ping(ctx).Err())
		},
	}}), log)
	reloads := p.newReloader(s, args, log, registry, func(s *settings, set *config.Set) { s.declareWorker(set, new(workerSettings)) }, (*settings).checkRedis)
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { reloads.run(ctx, p.hangups); return nil })
	running.Go(func() error { return served(server.Serve(private)) })
	running.Go(func() error {
		err := w.Run(ctx)
		return errors.Join(err, server.Close())
	})
	log.Info("working", zap.String("version", version), zap.Stringer("private", private.Addr()), zap.String("directory", s.directory))
	err = running.Wait()
	log.Info("gone")
	return err
}
