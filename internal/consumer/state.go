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
	// stateBytes is how much of what can grow goes into a first state: it has to find room in the
	// queue of a connection, of which it is the first quarter by default.
	stateBytes = 256 << 10
)

// Words for how a job is doing, where no event has said it. Crews write theirs in capitals.
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

// typeTaskFailed is the terminal event of work that was given up, if its worker has no words of its
// own for that.
const typeTaskFailed = "task_failed"

// failureOf returns the code of a [typeTaskFailed] event.
func failureOf(e *event.Event) string {
	u, _ := read(e, nil)
	return textOf(u["code"])
}

// show joins the group of a job and sends the state that fold makes of its history, oldest event
// first. Done again it sends the state again. A job of which nothing is known yet, an unknown one and
// one of another organization look alike: their history is empty.
func show(ctx context.Context, c Conn, group string, fold func(history []*event.Event) any) error {
	return c.JoinWithHistory(ctx, group, historyLength, func(history []*event.Event) error {
		return c.Send(fold(history))
	})
}

// newestOf returns the newest event of a type, nil if there is none, and the [typeTaskFailed] event that
// has come since, if one has.
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

// journal is what the events of a job have added up to, oldest first. What comes under the key of an
// earlier entry takes its place, since a task that is tried again says again what it said.
type journal struct {
	entries [][]byte // JSON
	places  map[string]int
}

// add enters an entry; with an empty key it replaces nothing.
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
