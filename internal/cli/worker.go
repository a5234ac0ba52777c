package cli

import (
	"context"
	"errors"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/task"
)

const workerUsage = `
Run tasks from Redis, each under its own organization. Any number of workers share the work, and the
others take over the tasks of one that dies. docs/tasks.md describes the format of a task, for workers
and dispatchers in other languages.

The built-in kind "echo" returns its payload, to try the whole path:

  gateway worker --directory session
  redis-cli XADD orgcast:tasks:echo '*' organization_id acme kind echo id t1 group all payload '{"text":"hello"}'

Connections of acme that have joined the group all get {"type":"echo_progress",…} and then
{"type":"task_complete","task_id":"t1","result":{"text":"hello"},…}.

After SIGINT or SIGTERM, running tasks may finish within --worker-drain; other workers get the rest at
once. A second signal ends the process, and its tasks are taken over after --worker-takeover. SIGHUP
reads the settings file, passwords and routes again, all or nothing; running tasks continue.
New certificates are found without it.

With the --routes-file of serve, it also tells hooks of connections that have ended.
`

// declareTasks declares the settings for running tasks.
func declareTasks(set *config.Set, w *app.WorkerOptions) {
	set.Int(&w.Concurrency, "worker-concurrency", task.DefaultConcurrency, 1, "tasks of each kind to run at the same time")
	set.Float(&w.Share, "worker-share", task.DefaultShare, "part of --worker-concurrency that tasks of one organization may take, at least one slot; the rest stays free for the others; at most 1")
	set.Int(&w.Attempts, "worker-attempts", task.DefaultAttempts, 1, "attempts before a task is given up")
	set.Duration(&w.Timeout, "worker-timeout", task.DefaultTimeout, time.Second, "maximum time for one run of a task")
	set.Duration(&w.Backoff, "worker-backoff", task.DefaultBackoff, time.Millisecond, "pause after a task's first failure; it doubles with each, up to --worker-takeover")
	set.Duration(&w.Takeover, "worker-takeover", task.DefaultTakeover, time.Second, "how long a worker may be silent before its tasks are taken over; the same for all workers of a kind")
	set.Duration(&w.Drain, "worker-drain", task.DefaultDrain, 0, "after SIGTERM, how long running tasks may take to finish")
}

// declareWorker declares all settings of the worker.
func (s *settings) declareWorker(set *config.Set, own *app.WorkerOptions) {
	s.declareLogging(set)
	s.declareRedis(set)
	s.declareState(set)
	set.Choice(&s.Directory, "directory", "redis", []string{"redis", "session"},
		"source of truth for active organizations and memberships: hashes in Redis, or session, which accepts all of them")
	set.String(&s.AdminListen, "admin-listen", "127.0.0.1:9091", "address of the private listener: health, metrics, profiles", CheckAddress)
	set.Int(&s.MaxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	s.declareRoutesFile(set)
	declareTasks(set, own)
	set.Reloads(workerReloads...)
}

// workerReloads are the settings of a worker that a reload can change.
var workerReloads = []string{ //nolint:gochecknoglobals // constant
	"log-level", "routes-file",
	"redis-password", "redis-sentinel-user", "redis-sentinel-password", "redis-tls-ca", "redis-tls-cert", "redis-tls-key",
	"redis-state-password", "redis-state-sentinel-user", "redis-state-sentinel-password", "redis-state-tls-ca", "redis-state-tls-cert", "redis-state-tls-key",
}

// checkShare checks the upper bound of a share.
func checkShare(w *app.WorkerOptions) error {
	if w.Share > 1 {
		return errors.New("--worker-share: must be at most 1")
	}
	return nil
}

func workerCommand(ctx context.Context, p *Process, args []string) error {
	s, own := new(settings), new(app.WorkerOptions)
	set := config.New("worker", workerUsage)
	s.declareWorker(set, own)
	if err := p.ParseAlone(set, args, s.CheckRedis, p.tracing(&s.Options), func() error { return checkShare(own) }); err != nil {
		return err
	}
	s.Version = p.program.Build.Version
	own.Options = s.Options
	own.Extension = p.program.Extension
	log, err := p.NewLogger(&s.Options)
	if err != nil {
		return err
	}
	declare := func(s *settings, set *config.Set) { s.declareWorker(set, new(app.WorkerOptions)) }
	return app.Work(ctx, own, p.stays(log, set, args, declare, func(s *settings) error { return s.CheckRedis() }))
}
