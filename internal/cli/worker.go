package cli

import (
	"context"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/event"
)

const workerUsage = `
Run tasks from Redis, each under its own organization. Any number of workers share the work; one
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

// declareTasks declares how tasks are run.
func declareTasks(set *config.Set, w *app.WorkerOptions) {
	set.Int(&w.Concurrency, "worker-concurrency", 8, 1, "tasks of each kind that run at a time")
	set.Int(&w.Attempts, "worker-attempts", 5, 1, "attempts before a task is given up")
	set.Duration(&w.Timeout, "worker-timeout", 5*time.Minute, time.Second, "maximum time for one run of a task")
	set.Duration(&w.Backoff, "worker-backoff", time.Second, time.Millisecond, "pause after a task's first failure; it doubles with each, up to --worker-takeover")
	set.Duration(&w.Takeover, "worker-takeover", 30*time.Second, time.Second, "silence after which a worker counts as dead; a live one reports three times as often")
	set.Duration(&w.Drain, "worker-drain", 10*time.Second, 0, "after SIGTERM, how long running tasks may take to finish")
}

// declareWorker declares all settings of the worker.
func (s *settings) declareWorker(set *config.Set, own *app.WorkerOptions) {
	s.declareLogging(set)
	s.declareRedis(set)
	s.declareState(set)
	set.Choice(&s.Directory, "directory", "redis", []string{"redis", "session"},
		"source of truth for active organizations: hashes in Redis, or none, so that all are active")
	set.String(&s.AdminListen, "admin-listen", "127.0.0.1:9091", "address of the private listener: health, metrics, profiles", CheckAddress)
	set.Int(&s.MaxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	declareTasks(set, own)
}

func workerCommand(ctx context.Context, p *Process, args []string) error {
	s, own := new(settings), new(app.WorkerOptions)
	set := config.New("worker", workerUsage)
	s.declareWorker(set, own)
	if rest, err := p.Parse(set, args, s.CheckRedis); err != nil || len(rest) > 0 {
		return p.Surplus(rest, err)
	}
	own.Options = s.Options
	log, err := p.NewLogger(&s.Options)
	if err != nil {
		return err
	}
	declare := func(s *settings, set *config.Set) { s.declareWorker(set, new(app.WorkerOptions)) }
	return app.Work(ctx, own, p.stays(log, args, declare, func(s *settings) error { return s.CheckRedis() }))
}
