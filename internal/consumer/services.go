package consumer

import (
	"context"
	"errors"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// What consumers need of the rest of the gateway. All of it belongs to the organization of ctx, and
// is refused without one; nothing here names an organization. Implementations are safe for
// concurrent use and keep the deadline of ctx. An error that is none of those below means that the
// thing may or may not have been done, and that it cannot be done at the moment.
type (
	// Dispatcher hands work to a worker, which outlives the connection.
	Dispatcher interface {
		// Dispatch returns the ID of the work: that of the earlier one if some was dispatched under
		// the same kind and idempotency key. It returns [ErrTooManyTasks] if too much waits
		// already.
		Dispatch(ctx context.Context, w Work) (id string, err error)
		// Withdraw makes sure that work that was refused is not handed over later under the same
		// ID: Dispatch then returns [ErrTooManyTasks]. It returns false if the work was handed
		// over.
		Withdraw(ctx context.Context, kind, id string) (withdrawn bool, err error)
	}
	// Recorder publishes what the server itself has to say to a group, and keeps it in the group's
	// history.
	Recorder interface {
		// Record publishes v, a JSON object with a type, to the group called name. Of several with
		// the same key, unless that is empty, one is recorded.
		Record(ctx context.Context, name, key string, v any) error
		// RecordFailure is Record for the end of work that was announced with Record and could not
		// be handed over. No quota refuses it: the work's own bytes have been charged.
		RecordFailure(ctx context.Context, name, key string, v any) error
		// Recorded returns where in the group's history what was recorded under the key stands. ok
		// is false if nothing was, or too long ago.
		Recorded(ctx context.Context, name, key string) (at event.Position, ok bool, err error)
	}
	// Inputs are the open questions of workers to people.
	Inputs interface {
		// Answer gives the input that the step of the execution waits for. It returns
		// [ErrInputClosed] or [ErrInputTaken]. An answer that comes again under the key of the one
		// that was taken is no second one, and no error.
		Answer(ctx context.Context, answer Answer) error
	}
	// Requests remember what users ask for, each for a day.
	Requests interface {
		// Begin returns the request that the context's user made under the id. It is a new one if
		// there is none, and [ErrConflict] if that has another content. The content is compared as
		// JSON.
		Begin(ctx context.Context, id string, content any) (Request, error)
		// Finish notes that the work of the request was handed over.
		Finish(ctx context.Context, r Request) error
		// Again notes that the work has ended as failed before it was handed over. The next one
		// under the same id and with the same content is new work.
		Again(ctx context.Context, r Request) error
	}
	// Owners know what belongs to one user alone.
	Owners interface {
		// Claim makes the thing called id the user's own if it is nobody's yet, and reports whether
		// it is the user's.
		Claim(ctx context.Context, kind, id, user string) (owner bool, err error)
	}
)

// Answer is what a person answers to a question.
type Answer struct {
	Execution string
	TaskIndex int
	Input     string
	Key       string // under which a repeated answer is the same; empty: none
}

// Request is what a user asked for.
type Request struct {
	ID   string // the browser's
	Work string // names the work that it is, or becomes
	Done bool   // it was handed over
	New  bool   // nobody has asked for it before
	Note any    // what an implementation remembers with it
}

// Work is one piece of work for a worker.
type Work struct {
	Kind        string // says which worker
	ID          string // names the work inside its kind; empty: one is made
	Idempotency string // under which a repeated dispatch is the same work; empty: none
	Group       string // where its events go, a group name
	User        string // who asked for it
	Payload     any    // what the worker gets, as JSON
}

var (
	// ErrTooManyTasks is returned if too much work of this kind waits already.
	ErrTooManyTasks = errors.New("consumer: too many tasks are waiting")
	// ErrInputClosed is returned for input that nothing waits for: it comes late, belongs to
	// another organization, or was never asked for. They look alike.
	ErrInputClosed = errors.New("consumer: no such request for input")
	// ErrInputTaken is returned to who answers second.
	ErrInputTaken = errors.New("consumer: request for input has been answered")
	// ErrConflict is returned for a request id under which the user has asked for something else.
	ErrConflict = errors.New("consumer: request id was used for something else")
	// ErrUnknownMessage is returned for a message that is not, or no longer, in the conversation.
	ErrUnknownMessage = errors.New("consumer: no such message")
	// ErrQuotaExceeded is returned for what exceeds what the user, or the members of the
	// organization together, may have the gateway keep.
	ErrQuotaExceeded = errors.New("consumer: quota exceeded")
	// ErrUnavailable is returned, wrapped, if a part of the gateway does not answer.
	ErrUnavailable = errors.New("consumer: unavailable")
)

// messageTimeout bounds what one message of a browser may wait for: the next one waits behind it.
const messageTimeout = 5 * time.Second

// promptly returns the context in which a message is handled. What has begun is brought to its end
// even if the connection ends meanwhile, so that of several steps all are done or none.
func promptly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), messageTimeout)
}

// refused tells the browser that what it asked for was not done, in the words of the error. id is
// the one that the browser gave it, if any.
func refused(c Conn, err error, id requestID) error {
	return sendError(c, codeOf(err), id)
}

// Refuse tells the browser that what it asked for was not done, in the words of the error. id is the one that the
// browser gave it, or empty; what is no id is left out.
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
