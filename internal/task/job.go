package task

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Codes of terminal events of failed tasks, besides those that handlers choose.
const (
	CodeFailed    = "failed"     // the handler returned an error, each time
	CodePanic     = "panic"      // the handler panicked, each time
	CodeTimeout   = "timeout"    // the handler took too long
	CodeCrashed   = "crashed"    // the worker's process died while it ran, each time
	CodeBadResult = "bad_result" // the handler's result is not an event
	CodeRefused   = "refused"    // the organization is suspended, or the user who asked is no longer a member
)

// ErrPanic is wrapped by the error of a handler that panicked.
var ErrPanic = errors.New("task: panic")

// Handler does the work of one kind of task. Its context carries the task's organization, the user
// who requested it, if any, a deadline and the worker's tools. The context ends early if the worker
// stops or has lost the task to another one. A handler may be called again for the same task, even
// while another process still runs it, if that process was silent for too long. So its effects must
// be safe to repeat.
//
// It returns the terminal event: anything that marshals to a JSON object with a type, or nil for
// {"type":"task_complete","task_id":ID}, or an [End] with one. After an error, the task is tried
// again, unless the error comes from [Fail]. Clients do not see its text.
type Handler func(ctx context.Context, job *Job) (terminal any, err error)

// Kind is one kind of task.
type Kind struct {
	Run Handler
	// Failed returns the terminal event of a task that has failed, or an [End] with one. code is
	// stable, and clients may see it. If Failed is nil, the event is
	// {"type":"task_failed","task_id":ID,"code":CODE}.
	Failed func(job *Job, code string) any
}

// End is a terminal event together with events for other groups, such as that of a board that lists
// the task. All of them are recorded and published in one step, exactly once.
type End struct {
	// Event is the terminal event, in the task's own group. Nil means the default one.
	Event any
	// Also are events for further groups of the task's organization, up to [MaxNotices].
	Also []Notice
}

// Notice is an event for the group called Group.
type Notice struct {
	Group string
	Event any
}

// MaxNotices is the most notices that an [End] may have, because Redis does nothing else while it
// records them.
const MaxNotices = 16

// FailError is an error that another attempt would not fix.
type FailError struct {
	Code string // stable, for clients
}

// Error implements error.
func (f *FailError) Error() string { return "task: gave up: " + f.Code }

// Fail returns the error with which a handler ends its task as failed at once. The code is stable
// text for clients, so it must not contain anything that they may not know.
func Fail(code string) error { return &FailError{Code: code} }

// Job is a task as a handler sees it.
type Job struct {
	Task
	// Attempt is the number of this delivery of the task, from 1.
	Attempt int
	// Store keeps values of the task's organization.
	Store *Store

	worker *Worker
}

// Progress records and publishes an event in the task's own group: anything that marshals to a JSON
// object with a type. It adds the organization, and refuses an event that names another one. The
// error is one of package event, [ErrForeign] if ctx belongs to another organization, [ErrEnded]
// after the terminal event, or an error of Redis.
func (j *Job) Progress(ctx context.Context, v any) error { return j.tell(ctx, j.Group, v) }

// Publish records and publishes an event in another group of the task's organization, as
// [Job.Progress] does in the task's own group. A task that is tried again publishes again. Events
// that must come exactly once, when the task ends, belong in its [End].
func (j *Job) Publish(ctx context.Context, name string, v any) error {
	group, err := event.NewGroup(j.Organization(), name)
	if err != nil {
		return err
	}
	return j.tell(ctx, group, v)
}

// tell records and publishes an event other than the terminal one.
func (j *Job) tell(ctx context.Context, group event.Group, v any) error {
	switch org, ok := orgctx.From(ctx); {
	case !ok:
		return orgctx.ErrNoOrganization
	case org != j.Organization():
		return ErrForeign
	}
	payload, err := j.encode(group, v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	w := j.worker
	err = w.clocks.Run(ctx, w.progress, w.recordKeys(&j.Task, group), func(latest string) []any {
		return append(w.recordArgs(group, payload), latest)
	}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return ErrEnded
	case err != nil:
		return fmt.Errorf("publish to %s: %w", group, err)
	}
	return nil
}

// encode returns an event for a group of the task's organization.
func (j *Job) encode(group event.Group, v any) ([]byte, error) {
	b, err := event.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	payload, err := event.WithOrganization(j.Organization(), b)
	if err != nil {
		return nil, err
	}
	return payload, event.Check(group, payload, j.worker.opt.MaxEvent)
}

// addressed is an encoded event and its group.
type addressed struct {
	group   event.Group
	payload []byte
}

// end encodes a terminal event, which comes first, and its notices.
func (j *Job) end(terminal any, standard map[string]string) ([]addressed, error) {
	end, ok := terminal.(End)
	if !ok {
		end.Event = terminal
	}
	if end.Event == nil {
		end.Event = standard
	}
	if len(end.Also) > MaxNotices {
		return nil, fmt.Errorf("%w: %d notices", ErrTooLarge, len(end.Also))
	}
	payload, err := j.encode(j.Group, end.Event)
	if err != nil {
		return nil, err
	}
	all := []addressed{{group: j.Group, payload: payload}}
	for _, n := range end.Also {
		group, err := event.NewGroup(j.Organization(), n.Group)
		if err != nil {
			return nil, err
		}
		if payload, err = j.encode(group, n.Event); err != nil {
			return nil, err
		}
		all = append(all, addressed{group: group, payload: payload})
	}
	return all, nil
}

// complete returns the events with which a successful task ends.
func (j *Job) complete(terminal any) ([]addressed, error) {
	return j.end(terminal, map[string]string{"type": "task_complete", "task_id": j.ID})
}

// failed returns the events with which a failed task ends. Even if Failed fails, there is a
// terminal event.
func (j *Job) failed(kind Kind, code string) (all []addressed, err error) {
	standard := map[string]string{"type": "task_failed", "task_id": j.ID, "code": code}
	if kind.Failed != nil {
		err = guard(func() (err error) {
			all, err = j.end(kind.Failed(j, code), standard)
			return err
		})
		if err == nil {
			return all, nil
		}
	}
	// The standard event always encodes, because its fields are texts.
	payload, _ := j.encode(j.Group, standard)
	return []addressed{{group: j.Group, payload: payload}}, err
}

// panicError is the error of a panic.
type panicError struct {
	what  string // without text from the handler
	stack []byte
}

func (*panicError) Error() string { return ErrPanic.Error() }

func (*panicError) Unwrap() error { return ErrPanic }

// guard runs fn and turns a panic into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			p := &panicError{what: fmt.Sprintf("%T", value), stack: debug.Stack()}
			// The text of a runtime error contains no payload, but a handler's text might.
			if known, ok := value.(runtime.Error); ok {
				p.what = known.Error()
			}
			err = p
		}
	}()
	return fn()
}
