// Package task runs work that outlives a connection. A [Dispatcher] puts a [Task] into the line of
// its organization in Redis. A [Worker] in any process serves the lines of all organizations in
// turn, and runs a [Handler] as the task's organization. In the end, exactly one terminal event
// reaches the task's group. Handlers and consumers use [Tools], which keep values in a [Store] of
// one organization, and [Asks], the questions that wait for a person.
//
// A handler may run more than once for a task, when it fails or its process is killed. The terminal
// event is still published once, because one script publishes it and remembers that.
//
// docs/tasks.md describes the form of the entries, for workers in other languages.
package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

const (
	// MaxPayload is the largest payload of a task, in bytes.
	MaxPayload = 256 << 10
	// consumerGroup is the group of every worker, in every stream.
	consumerGroup = "workers"
	// redisTimeout bounds each round trip to Redis, which normally takes a millisecond.
	redisTimeout = 5 * time.Second
)

var (
	// ErrMalformed is returned for a task with an invalid field.
	ErrMalformed = errors.New("task: malformed")
	// ErrForeign is returned for a group or a store of another organization than the context's.
	ErrForeign = errors.New("task: belongs to another organization")
	// ErrNoOrganization is returned if an entry names no organization.
	ErrNoOrganization = errors.New("task: entry names no organization")
	// ErrBacklog is returned if the line of the organization and kind is full.
	ErrBacklog = errors.New("task: too many tasks of the organization are waiting")
	// ErrEnded is returned for an event of a task whose terminal event has been published.
	ErrEnded = errors.New("task: already ended")
)

// Task is one piece of work. Its organization is that of Group.
type Task struct {
	// Kind decides which handler runs it. It satisfies [orgctx.ValidID].
	Kind string
	// ID names the task inside its organization and kind. It satisfies [orgctx.ValidID].
	ID string
	// Idempotency is the key that identifies a repeated dispatch as the same task. It satisfies
	// [event.ValidGroupName]. If it is empty, the ID is used.
	Idempotency string
	// Group is the group for progress and the terminal event.
	Group event.Group
	// UserID is the user who requested the task, or empty. It satisfies [orgctx.ValidUserID].
	UserID string
	// Payload is any JSON of up to [MaxPayload] bytes. Nil means null.
	Payload json.RawMessage
}

// Organization returns the organization that the task belongs to.
func (t *Task) Organization() orgctx.ID { return t.Group.Organization() }

// check returns an error that names the wrong field and wraps [ErrMalformed].
func (t *Task) check() error {
	wrong := func(field string) error { return fmt.Errorf("%w: %s", ErrMalformed, field) }
	switch {
	case !orgctx.ValidID(t.Kind):
		return wrong("kind")
	case !orgctx.ValidID(t.ID):
		return wrong("id")
	case !event.ValidGroupName(t.Idempotency):
		return wrong("idempotency_key")
	case t.Group.IsZero():
		return wrong("group")
	case t.UserID != "" && !orgctx.ValidUserID(t.UserID):
		return wrong("user_id")
	case len(t.Payload) > MaxPayload || !utf8.Valid(t.Payload) || !json.Valid(t.Payload):
		return wrong("payload")
	}
	return nil
}

// Names of an entry's fields.
const (
	fieldOrganization = "organization_id"
	fieldUser         = "user_id"
	fieldKind         = "kind"
	fieldID           = "id"
	fieldIdempotency  = "idempotency_key"
	fieldGroup        = "group"
	fieldPayload      = "payload"
	// Added by scripts.
	fieldDispatched = "dispatched_at"
	fieldBefore     = "delivered_before"
)

// fields returns the entry of a task, as alternating names and values.
func (t *Task) fields() []any {
	return []any{
		fieldOrganization, t.Organization().String(), fieldUser, t.UserID, fieldKind, t.Kind, fieldID, t.ID,
		fieldIdempotency, t.Idempotency, fieldGroup, t.Group.Name(), fieldPayload, string(t.Payload),
	}
}

// decode reads an entry of the stream of a kind. Its error is or wraps [ErrNoOrganization] or
// [ErrMalformed], and contains no data of the entry.
func decode(kind string, fields map[string]string) (*Task, error) {
	org, err := orgctx.ParseID(fields[fieldOrganization])
	if err != nil {
		return nil, ErrNoOrganization
	}
	group, err := event.NewGroup(org, fields[fieldGroup])
	if err != nil {
		return nil, fmt.Errorf("%w: group", ErrMalformed)
	}
	t := &Task{
		Kind: fields[fieldKind], ID: fields[fieldID], Idempotency: fields[fieldIdempotency], Group: group,
		UserID: fields[fieldUser], Payload: json.RawMessage(fields[fieldPayload]),
	}
	t.complete()
	if t.Kind != kind {
		return nil, fmt.Errorf("%w: kind differs from the stream's", ErrMalformed)
	}
	return t, t.check()
}

// complete fills in optional fields.
func (t *Task) complete() {
	if t.Idempotency == "" {
		t.Idempotency = t.ID
	}
	if len(t.Payload) == 0 {
		t.Payload = json.RawMessage("null")
	}
}

// bounded returns a context for one round trip to Redis. It does not end when ctx does: after a
// command was sent, only its answer tells whether it ran.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
}
