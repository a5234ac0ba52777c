package orgcast

import (
	"context"
	"encoding/json"

	"orgcast/internal/task"
)

// What a worker does.
type (
	// Kind says how the tasks of one kind are done.
	Kind = task.Kind
	// Handler does the work of one kind. It may run more than once for a task; the terminal event is published once.
	Handler = task.Handler
	// Job is a task as its handler sees it. [Job.Progress] and [Job.Publish] emit events, [Job.Ask] asks a person, and
	// [Job.Store] keeps values.
	Job = task.Job
	// Task is one piece of work, as it was dispatched.
	Task = task.Task
	// End is a terminal event that other groups hear of, too.
	End = task.End
	// Notice is an event for another group, in an [End].
	Notice = task.Notice
	// Tool is something that handlers call by name with [RunTool].
	Tool = task.Tool
	// Store keeps values of one organization under short names.
	Store = task.Store
	// FailError is the error that [Fail] returns.
	FailError = task.FailError
)

var (
	// ErrForeign is returned for a job or a store that is used in the context of another organization.
	ErrForeign = task.ErrForeign
	// ErrEnded is returned for an event of a task that has ended.
	ErrEnded = task.ErrEnded
	// ErrAskNotFound is returned by [Job.Ask] for a question whose life is over.
	ErrAskNotFound = task.ErrAskNotFound
	// ErrUnknownTool is returned for a name under which there is no tool.
	ErrUnknownTool = task.ErrUnknownTool
	// ErrNotStored is returned for a name under which nothing is stored.
	ErrNotStored = task.ErrNotStored
)

// Fail returns the error by which a [Handler] gives its task up at once. The code is stable text for clients, and tells
// nothing that they may not know. After other errors, the task is tried again.
func Fail(code string) error { return task.Fail(code) }

// RunTool runs one of the tools of the worker for the organization and the user of ctx, which must be active at that
// moment. Input and output are JSON. An error of the tool comes back unchanged.
func RunTool(ctx context.Context, name string, input json.RawMessage) (json.RawMessage, error) {
	return task.RunTool(ctx, name, input)
}
