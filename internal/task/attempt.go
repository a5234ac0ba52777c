package task

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
	"orgcast/internal/tracing"
)

// Causes of the end of a handler's context.
var (
	errTimeout   = errors.New("task: took too long")
	errClaimLost = errors.New("task: another worker has taken over")
	errStopping  = errors.New("task: the worker is stopping")
	// errIgnored is not a cause: it is the result of a handler that ignores one.
	errIgnored = errors.New("task: handler ignored the end of its context")
)

// How tasks end, as finish.v1.lua stores it.
const (
	endComplete = "complete"
	endFailed   = "failed"
)

// deadMost is roughly how many dead letters of a kind are kept.
const deadMost = 10_000

// again says when to deliver an entry again, and with which count.
type again struct {
	delay      time.Duration
	deliveries int // so far
}

// process works on an entry until it ends or until its next attempt, which it then returns. If
// Redis fails meanwhile, the entry stays with this worker until it counts as abandoned, and another
// worker continues.
func (q *queue) process(ctx context.Context, log *zap.Logger, e *entry) *again {
	if len(e.fields) == 0 {
		q.acknowledge(ctx, log, e) // someone has deleted it from the stream
		return nil
	}
	t, err := decode(q.name, e.fields)
	if err != nil {
		q.refuse(ctx, log, e, err)
		return nil
	}
	log = log.With(zap.Stringer("organization_id", t.Organization()), zap.String("task", t.ID))
	job := &Job{
		Task: *t, Attempt: e.attempts(), worker: q.Worker,
		Store: &Store{client: q.client, keys: q.keys, org: t.Organization()},
	}

	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	stop, renewed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(renewed)
		q.renew(ctx, log, e, stop, lose)
	}()

	ended := make(chan struct{}) // when the handler has returned
	close(ended)
	var terminal any
	ran := false
	err = orgctx.Do(ctx, q.dir, t.Organization(), func(ctx context.Context) error {
		if how, err := q.howEnded(ctx, t); err != nil || how != "" {
			return cmp.Or[error](err, &endedError{how: how})
		}
		if e.attempts() > q.opt.Attempts {
			return Fail(CodeCrashed)
		}
		ran = true
		if at, ok := e.dispatched(); ok && job.Attempt == 1 {
			q.metrics.waited.WithLabelValues(q.name).Observe(max(time.Since(at), 0).Seconds())
		}
		if t.UserID != "" {
			ctx = orgctx.WithUser(ctx, orgctx.User(t.UserID))
		}
		var err error
		terminal, ended, err = q.attempt(ctx, log, job)
		return err
	})
	next := q.finishAttempt(ctx, log, e, job, outcome{terminal: terminal, err: err, ran: ran})

	close(stop)
	<-renewed
	select {
	case <-ended:
	default:
		log.Error("handler ignored the end of its context, its slot stays taken")
		<-ended
	}
	return next
}

// endedError says that the terminal event was published by an earlier attempt.
type endedError struct{ how string }

func (*endedError) Error() string { return ErrEnded.Error() }

// outcome is the result of an attempt.
type outcome struct {
	terminal any
	err      error
	ran      bool // if false, the handler was not called
}

// attempt runs the handler once. ended is closed when the handler has returned. If it has not yet,
// the error is errIgnored.
func (q *queue) attempt(ctx context.Context, log *zap.Logger, job *Job) (terminal any, ended chan struct{}, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, q.opt.Timeout, errTimeout)
	defer cancel()
	ctx, span := q.opt.Tracer.Start(ctx, "task "+q.name, tracing.Consumer)
	defer span.End()
	span.Text("organization_id", job.Organization().String())
	span.Number("orgcast.attempt", job.Attempt)
	type result struct {
		terminal any
		err      error
	}
	results := make(chan result, 1)
	ended = make(chan struct{})
	running := q.metrics.running.WithLabelValues(q.name)
	begun := time.Now()
	go func() { // process waits for its end
		defer close(ended)
		running.Inc()
		defer running.Dec()
		var r result
		r.err = guard(func() (err error) {
			r.terminal, err = q.kind.Run(ctx, job)
			return err
		})
		results <- r
	}()
	var r result
	select {
	case r = <-results:
	case <-ctx.Done():
		select {
		case r = <-results:
		case <-time.After(q.opt.Grace):
			r.err = errIgnored
		}
	}
	q.metrics.seconds.WithLabelValues(q.name).Observe(time.Since(begun).Seconds())
	if r.err != nil {
		span.Fail(codeOf(r.err))
	}
	if r.err != nil && !errors.Is(r.err, errIgnored) && ctx.Err() != nil {
		r.err = errors.Join(context.Cause(ctx), r.err) // the cause matters more than the handler's error
	}
	if p, ok := errors.AsType[*panicError](r.err); ok {
		log.Error("handler panicked", zap.String("panic", p.what), zap.ByteString("stack", p.stack))
	}
	return r.terminal, ended, r.err
}

// finishAttempt acts on the outcome of an attempt.
func (q *queue) finishAttempt(ctx context.Context, log *zap.Logger, e *entry, job *Job, o outcome) *again {
	count := func(result string) { q.metrics.attempts.WithLabelValues(q.name, result).Inc() }
	var before *endedError
	var failure *FailError
	switch cause := context.Cause(ctx); {
	case o.err == nil: // even if the claim is lost: the work is done, and its end is published once
		terminal, err := job.complete(o.terminal)
		if err != nil {
			log.Error("handler returned no event", zap.Error(err))
			count(CodeBadResult)
			q.giveUp(ctx, log, e, job, CodeBadResult)
			return nil
		}
		count(endComplete)
		q.conclude(ctx, log, e, job, endComplete, terminal, "")
	case !o.ran && errors.Is(o.err, directory.ErrOrganizationSuspended):
		q.refuseJob(ctx, log, e, job)
	case !o.ran && errors.Is(o.err, directory.ErrUnknown):
		q.refuse(ctx, log, e, o.err)
	case errors.As(o.err, &before):
		if before.how != endFailed || q.bury(ctx, log, e, endFailed) {
			q.acknowledge(ctx, log, e)
		}
	case errors.Is(cause, errClaimLost):
		count("lost")
		log.Warn("task lost to another worker")
	case errors.Is(cause, errStopping):
		count("stopped")
		return &again{deliveries: e.deliveries - 1}
	case errors.As(o.err, &failure):
		count("given_up")
		q.giveUp(ctx, log, e, job, failure.Code)
	case o.ran && errors.Is(o.err, directory.ErrUnknown): // as from [RunTool]: its user lost the permission
		count(CodeRefused)
		log.Warn("task refused while it ran", zap.Error(o.err))
		q.giveUp(ctx, log, e, job, CodeRefused)
	case !o.ran: // the directory or Redis does not answer, which is not the task's fault
		log.Warn("task postponed", zap.Error(o.err))
		return &again{delay: q.backoff(1), deliveries: e.deliveries - 1}
	default:
		code := codeOf(o.err)
		count(code)
		// A second attempt would harm if the first one is still running.
		if e.attempts() >= q.opt.Attempts || errors.Is(o.err, errIgnored) {
			log.Warn("task failed for good", zap.String("code", code), zap.Error(o.err))
			q.giveUp(ctx, log, e, job, code)
			return nil
		}
		delay := q.backoff(e.attempts())
		log.Info("task failed, another attempt follows", zap.String("code", code), zap.Duration("after_seconds", delay), zap.Error(o.err))
		return &again{delay: delay, deliveries: e.deliveries}
	}
	return nil
}

// codeOf returns the stable name of a handler's error.
func codeOf(err error) string {
	switch {
	case errors.Is(err, ErrPanic):
		return CodePanic
	case errors.Is(err, errTimeout), errors.Is(err, errIgnored):
		return CodeTimeout
	default:
		return CodeFailed
	}
}

// backoff returns the pause after the n-th failure.
func (q *queue) backoff(n int) time.Duration {
	d := q.opt.Backoff
	for range n - 1 {
		if d *= 2; d >= q.opt.Takeover {
			break
		}
	}
	return jitter(min(d, q.opt.Takeover))
}

// recordKeys returns the keys for scripts that record an event of a task in a group.
func (w *Worker) recordKeys(t *Task, group event.Group) []string {
	return []string{w.keys.TaskEnd(t.Organization(), t.Kind, t.ID), w.keys.History(group)}
}

// recordArgs returns the first arguments of these scripts.
func (w *Worker) recordArgs(group event.Group, payload []byte) []any {
	return []any{w.keys.GroupChannel(group), payload, w.opt.HistoryLength, w.opt.HistoryAge.Milliseconds()}
}

// howEnded returns how the task ended, or "" if it has not.
func (q *queue) howEnded(ctx context.Context, t *Task) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	how, err := q.client.Get(ctx, q.keys.TaskEnd(t.Organization(), t.Kind, t.ID)).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return how, err
}

// giveUp ends a task as failed.
func (q *queue) giveUp(ctx context.Context, log *zap.Logger, e *entry, job *Job, code string) {
	q.conclude(ctx, log, e, job, endFailed, q.failure(log, job, code), code)
}

// failure returns the events with which a failed task ends.
func (q *queue) failure(log *zap.Logger, job *Job, code string) []addressed {
	events, err := job.failed(q.kind, code)
	if err != nil {
		log.Error("failure event of the task is invalid", zap.Error(err))
	}
	return events
}

// conclude publishes the events, the terminal one first, then buries a failed task, then
// acknowledges the entry. A worker that takes over in between continues where this one stopped.
func (q *queue) conclude(ctx context.Context, log *zap.Logger, e *entry, job *Job, how string, events []addressed, code string) {
	keys := q.recordKeys(&job.Task, events[0].group)
	args := append(q.recordArgs(events[0].group, events[0].payload), how, q.opt.Memory.Milliseconds())
	for _, also := range events[1:] {
		keys = append(keys, q.keys.History(also.group))
		args = append(args, q.keys.GroupChannel(also.group), also.payload)
	}
	var ended string
	err := q.persist(ctx, func(ctx context.Context) (err error) {
		ended, err = q.clocks.Run(ctx, q.finish, keys, func(latest string) []any { return append(slices.Clip(args), latest) }).Text()
		return err
	})
	if err != nil {
		log.Error("terminal event not published, the next worker tries again", zap.Error(err))
		return
	}
	if ended == how {
		q.metrics.ended.WithLabelValues(q.name, how).Inc()
		log.Info("task ended", zap.String("outcome", how), zap.String("code", code))
	}
	if ended == endFailed && !q.bury(ctx, log, e, cmp.Or(code, endFailed)) {
		return
	}
	q.acknowledge(ctx, log, e)
}

// bury copies an entry to the dead letters. If the worker dies before it acknowledges the entry,
// the next one buries it again: the two streams may be on two servers, so no script can do both.
func (q *queue) bury(ctx context.Context, log *zap.Logger, e *entry, reason string) bool {
	values := make([]any, 0, 2*len(e.fields)+6)
	for name, value := range e.fields {
		values = append(values, name, value)
	}
	values = append(values, "dead_reason", reason, "dead_entry", e.id, "dead_deliveries", e.attempts())
	err := q.persist(ctx, func(ctx context.Context) error {
		return q.client.XAdd(ctx, &redis.XAddArgs{Stream: q.keys.DeadTasks(q.name), MaxLen: deadMost, Approx: true, Values: values}).Err()
	})
	if err != nil {
		log.Error("task not dead-lettered, the next worker tries again", zap.Error(err))
	}
	return err == nil
}

// acknowledge removes a finished entry, so that the stream holds only open work.
func (q *queue) acknowledge(ctx context.Context, log *zap.Logger, e *entry) {
	err := q.persist(ctx, func(ctx context.Context) error {
		pipe := q.client.TxPipeline()
		pipe.XAck(ctx, q.stream, consumerGroup, e.id)
		pipe.XDel(ctx, q.stream, e.id)
		return redisreply.Exec(ctx, pipe)
	})
	if err != nil {
		log.Error("task not acknowledged, the next worker tries again", zap.Error(err))
	}
}

// giveBack gives an entry back. Any worker may take it after the delay, which is at most Takeover.
func (q *queue) giveBack(ctx context.Context, log *zap.Logger, e *entry, next *again) {
	idle := max(q.opt.Takeover-next.delay, 0)
	err := q.persist(ctx, func(ctx context.Context) error {
		return q.hold.Run(ctx, q.client, []string{q.stream}, consumerGroup, q.opt.Name, e.id, idle.Milliseconds(), max(next.deliveries, 0)).Err()
	})
	if err != nil {
		log.Warn("task not released, another worker takes it over later", zap.Error(err))
	}
}

// renew renews the claim on an entry until stop is closed. If the claim is lost, it ends the work.
func (q *queue) renew(ctx context.Context, log *zap.Logger, e *entry, stop <-chan struct{}, lose context.CancelCauseFunc) {
	ticker := time.NewTicker(q.opt.Takeover / 3)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		asking, cancel := bounded(ctx)
		ours, err := q.hold.Run(asking, q.client, []string{q.stream}, consumerGroup, q.opt.Name, e.id, 0, e.deliveries).Int()
		cancel()
		switch {
		case err != nil:
			log.Warn("claim not renewed", zap.Error(err))
		case ours == 0:
			lose(errClaimLost)
			return
		}
	}
}

// persist tries a step a few times. The step must be safe to repeat.
func (q *queue) persist(ctx context.Context, step func(context.Context) error) error {
	const tries = 4
	var err error
	for n := range tries {
		if n > 0 {
			pause(context.WithoutCancel(ctx), jitter(q.opt.Backoff))
		}
		asking, cancel := bounded(ctx)
		err = step(asking)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}
