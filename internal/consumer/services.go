package consumer

import (
	"context"
	"errors"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// The services that consumers need from the rest of the gateway. All calls are for the organization
// of ctx, and fail without one. They cannot name another organization. Implementations are safe for
// concurrent use and keep the deadline of ctx. An error other than those below means that the call
// may or may not have had its effect, and cannot succeed at the moment.
type (
	// Dispatcher gives work to workers, which outlive the connection.
	Dispatcher interface {
		// Dispatch returns the ID of the work. If work was dispatched earlier with the same kind
		// and idempotency key, it returns that one's ID. It returns [ErrTooManyTasks] if too many
		// tasks are waiting.
		Dispatch(ctx context.Context, w Work) (id string, err error)
		// Withdraw makes sure that refused work is not dispatched later with the same ID: Dispatch
		// then returns [ErrTooManyTasks]. Withdraw returns false if the work was dispatched.
		Withdraw(ctx context.Context, kind, id string) (withdrawn bool, err error)
	}
	// Recorder publishes the server's own messages to a group, and keeps them in the group's
	// history.
	Recorder interface {
		// Record publishes v, a JSON object with a type, to the group called name. Of several with
		// the same key, unless it is empty, one is recorded.
		Record(ctx context.Context, name, key string, v any) error
		// RecordFailure is Record for the end of work that was announced with Record and could not
		// be dispatched. No quota refuses it, because the work itself has been charged.
		RecordFailure(ctx context.Context, name, key string, v any) error
		// Recorded returns the position of the event recorded under the key in the group's history.
		// ok is false if there is none, or if it is too old.
		Recorded(ctx context.Context, name, key string) (at event.Position, ok bool, err error)
	}
	// Inputs holds the open questions of workers to people.
	Inputs interface {
		// Answer gives the input that the step of the execution waits for. It returns
		// [ErrInputClosed] or [ErrInputTaken]. Repeating the accepted answer with the same key is
		// not an error and has no effect.
		Answer(ctx context.Context, answer Answer) error
	}
	// Requests remembers the requests of users, each for a day.
	Requests interface {
		// Begin returns the request that the context's user made with the id. If there is none, it
		// begins a new one. It returns [ErrConflict] if that request has other content. Contents
		// are compared as JSON.
		Begin(ctx context.Context, id string, content any) (Request, error)
		// Finish records that the work of the request was dispatched.
		Finish(ctx context.Context, r Request) error
		// Again records that the work has failed before it was dispatched. The next request with
		// the same id and content is new work.
		Again(ctx context.Context, r Request) error
	}
	// Owners knows which objects belong to one user.
	Owners interface {
		// Claim makes the object called id the user's own if it has no owner yet, and reports
		// whether the user owns it.
		Claim(ctx context.Context, kind, id, user string) (owner bool, err error)
	}
)

// Answer is a person's answer to a question.
type Answer struct {
	Execution string
	TaskIndex int
	Input     string
	Key       string // the same for a repeated answer; empty: none
}

// Request is a request of a user.
type Request struct {
	ID   string // the browser's id
	Work string // the ID of its work
	Done bool   // the work was dispatched
	New  bool   // it was not made before
	Note any    // data of the implementation
}

// Work is one piece of work for a worker.
type Work struct {
	Kind        string // decides which worker gets it
	ID          string // names the work within its kind; empty: one is created
	Idempotency string // the same for a repeated dispatch; empty: none
	Group       string // the group for its events
	User        string // the user who requested it
	Payload     any    // the worker's input, as JSON
}

var (
	// ErrTooManyTasks is returned if too many tasks of this kind are waiting.
	ErrTooManyTasks = errors.New("consumer: too many tasks are waiting")
	// ErrInputClosed is returned for input that no step waits for: it is late, belongs to another
	// organization, or was never requested. These cases look alike.
	ErrInputClosed = errors.New("consumer: no such request for input")
	// ErrInputTaken is returned if another person answered first.
	ErrInputTaken = errors.New("consumer: request for input has been answered")
	// ErrConflict is returned for a request id that the user has used for a different request.
	ErrConflict = errors.New("consumer: request id was used for something else")
	// ErrUnknownMessage is returned for a message that is not, or no longer, in the conversation.
	ErrUnknownMessage = errors.New("consumer: no such message")
	// ErrQuotaExceeded is returned if the user, or all members of the organization together, have
	// reached the limit of what the gateway keeps for them.
	ErrQuotaExceeded = errors.New("consumer: quota exceeded")
	// ErrUnavailable is returned, wrapped, if a part of the gateway does not answer.
	ErrUnavailable = errors.New("consumer: unavailable")
)

// messageTimeout bounds how long handling one message may take, because the next one waits for it.
const messageTimeout = 5 * time.Second

// promptly returns the context in which a message is handled. Handling continues even if the
// connection ends meanwhile, so that either all steps are done or none.
func promptly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), messageTimeout)
}

// refused tells the browser that its request failed, with the text of the error's code. id is the
// browser's request id, or empty.
func refused(c Conn, err error, id requestID) error {
	return sendError(c, codeOf(err), id)
}

// Refuse tells the browser that its request failed, with the text of the error's code. id is the
// browser's request id, or empty. An id that is not valid is left out.
func Refuse(c Conn, err error, id string) error {
	if !orgctx.ValidID(id) {
		id = ""
	}
	return refused(c, err, requestID(id))
}

// codeOf returns the code that tells browsers of an error.
func codeOf(err error) string {
	code := CodeUnavailable
	switch {
	case errors.Is(err, ErrConflict):
		code = CodeConflict
	case errors.Is(err, ErrUnknownMessage):
		code = CodeUnknownMessage
	case errors.Is(err, ErrTooManyGroups):
		code = CodeTooManyGroups
	case errors.Is(err, event.ErrBadFields):
		code = CodeBadMessage
	case errors.Is(err, ErrTooManyTasks):
		code = CodeTooManyTasks
	case errors.Is(err, ErrQuotaExceeded):
		code = CodeQuotaExceeded
	case errors.Is(err, ErrInputClosed):
		code = CodeInputClosed
	case errors.Is(err, ErrInputTaken):
		code = CodeInputTaken
	}
	return code
}
