package consumer

import (
	"context"
	"errors"
	"time"

	"orgcast/internal/event"
)

// What consumers need of the rest of the gateway. All of it belongs to the organisation of ctx, and
// is refused without one; nothing here names an organisation. Implementations are safe for
// concurrent use and keep the deadline of ctx. An error that is none of those below means that the
// thing may or may not have been done, and that it cannot be done at the moment.
type (
	// Dispatcher hands work to a worker, which outlives the connection.
	Dispatcher interface {
		// Dispatch returns the ID of the work: that of the earlier one if some was dispatched under
		// the same kind and idempotency key. It returns [ErrTooManyTasks] if too much waits already.
		Dispatch(ctx context.Context, w Work) (id string, err error)
	}
	// Recorder publishes what the server itself has to say to a group, and keeps it in the group's
	// history.
	Recorder interface {
		// Record publishes v, a JSON object with a type, to the group called name. Of several with the
		// same key, unless that is empty, one is recorded.
		Record(ctx context.Context, name, key string, v any) error
	}
	// Inputs are the open questions of workers to people.
	Inputs interface {
		// Answer gives the input that the step of the execution waits for. It returns [ErrInputClosed]
		// or [ErrInputTaken].
		Answer(ctx context.Context, execution string, taskIndex int, input string) error
	}
	// Owners know what belongs to one user alone.
	Owners interface {
		// Claim makes the thing called id the user's own if it is nobody's yet, and reports whether it
		// is the user's.
		Claim(ctx context.Context, kind, id, user string) (owner bool, err error)
	}
)

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
	ErrTooManyTasks = errors.New("consumer: too much work is waiting")
	// ErrInputClosed is returned for input that nothing waits for: it comes late, belongs to another
	// organisation, or was never asked for. They look alike.
	ErrInputClosed = errors.New("consumer: no such request for input")
	// ErrInputTaken is returned to who answers second.
	ErrInputTaken = errors.New("consumer: request for input has been answered")
	// ErrQuotaExceeded is returned for what exceeds what the user, or the members of the organization
	// together, may have the gateway keep.
	ErrQuotaExceeded = errors.New("consumer: quota exceeded")
	// ErrUnavailable is returned, wrapped, if a part of the gateway does not answer.
	ErrUnavailable = errors.New("consumer: unavailable")
)

// messageTimeout bounds what one message of a browser may wait for: the next one waits behind it.
const messageTimeout = 5 * time.Second

// promptly returns the context in which a message is handled.
func promptly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, messageTimeout)
}

// refused tells the browser that what it asked for was not done, in the words of the error. client
// is the id that the browser gave its message, if any.
func refused(c Conn, err error, client ident) error {
	code := CodeUnavailable
	switch {
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
	return sendError(c, code, client)
}
