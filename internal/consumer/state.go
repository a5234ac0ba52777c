package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"orgcast/internal/event"
)

const (
	// historyLength is how many events make a first state: all that a history keeps.
	historyLength = event.DefaultHistoryLength + 100
	// stateBytes bounds the parts of a first state that can grow. A first state must fit into the
	// queue of a connection, of which this is a quarter by default.
	stateBytes = 256 << 10
)

// Statuses of a job that no event has given. Crews write theirs in capitals.
const (
	statusPending   = "pending"
	statusRunning   = "running"
	statusCompleted = "completed"
	statusFailed    = "failed"

	crewPending   = "PENDING"
	crewRunning   = "RUNNING"
	crewCompleted = "COMPLETED"
	crewFailed    = "FAILED"
	crewCancelled = "CANCELLED"
)

// typeTaskFailed is the terminal event of failed work whose worker does not publish its own.
const typeTaskFailed = "task_failed"

// failureOf returns the code of a [typeTaskFailed] event.
func failureOf(e *event.Event) string {
	u, _ := read(e, nil)
	return textOf(u["code"])
}

// show joins the group of a job and sends the state that fold makes from its history, oldest event
// first. Calling it again sends the state again. A job without events, an unknown job and a job of
// another organization look alike, because their history is empty.
func show(ctx context.Context, c Conn, group string, fold func(history []*event.Event) any) error {
	return c.JoinWithHistory(ctx, group, historyLength, func(history []*event.Event) error {
		return c.Send(fold(history))
	})
}

// newestOf returns the newest event of a type, nil if there is none, and the [typeTaskFailed] event
// after it, if any.
func newestOf(history []*event.Event, typ string) (newest, failed *event.Event) {
	for _, e := range slices.Backward(history) {
		switch e.Type() {
		case typ:
			return e, failed
		case typeTaskFailed:
			if failed == nil {
				failed = e
			}
		}
	}
	return nil, failed
}

// journal collects entries from the events of a job, oldest first. An entry replaces an earlier one
// with the same key, because a task that is tried again repeats its events.
type journal struct {
	entries [][]byte // JSON
	places  map[string]int
}

// add adds an entry. With an empty key, it replaces nothing.
func (j *journal) add(key string, entry json.RawMessage) {
	if i, known := j.places[key]; known {
		j.entries[i] = entry
		return
	}
	if key != "" {
		if j.places == nil {
			j.places = make(map[string]int)
		}
		j.places[key] = len(j.entries)
	}
	j.entries = append(j.entries, entry)
}

// list returns the newest entries that fit into a first state, oldest first.
func (j *journal) list() json.RawMessage {
	first, size := len(j.entries), 0
	for first > 0 && size+len(j.entries[first-1]) <= stateBytes {
		first--
		size += len(j.entries[first])
	}
	return slices.Concat([]byte("["), bytes.Join(j.entries[first:], []byte(",")), []byte("]"))
}
