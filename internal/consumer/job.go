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
	u, _ := said[struct{ Code string }](e)
	return u.Code
}

// givenUp returns the code with which work was given up, unless an event of the type has come since.
func givenUp(history []*event.Event, typ string) (code string, ok bool) {
	for _, e := range slices.Backward(history) {
		switch e.Type() {
		case typ:
			return "", false
		case typeTaskFailed:
			return failureOf(e), true
		}
	}
	return "", false
}

// keep takes a value over if it was given.
func keep[T any](into, given *T) {
	if given != nil {
		*into = *given
	}
}

// show joins the group of a job and sends the state that fold makes of its history, oldest event
// first. Done again it sends the state anew. A job of which nothing is known yet, an unknown one and
// one of another organisation look alike: their history is empty.
func show(ctx context.Context, c Conn, group string, fold func(history []*event.Event) any) error {
	return c.JoinWithHistory(ctx, group, historyLength, func(history []*event.Event) error {
		return c.Send(fold(history))
	})
}

// said reads the fields of an event. Workers are of any making: an event whose fields are of other
// kinds than expected adds nothing to the state, and harms nobody.
func said[T any](e *event.Event) (fields T, ok bool) {
	ok = json.Unmarshal(e.Payload(), &fields) == nil
	return fields, ok
}

// newestOf returns the newest event of a type, if there is one, as [asLive] shows it.
func newestOf(c Conn, history []*event.Event, typ string) (frame json.RawMessage, ok bool) {
	for _, e := range slices.Backward(history) {
		if e.Type() == typ {
			return asLive(c, e), true
		}
	}
	return nil, false
}

// asLive shows a recorded event as the browser would have seen it when it came: with its position
// if the browser knows such.
func asLive(c Conn, e *event.Event) json.RawMessage {
	if c.Protocol() != ProtocolV1 || e.Position().IsZero() {
		return e.Payload()
	}
	object := bytes.TrimRight(e.Payload(), " \t\r\n")
	shown := append([]byte(nil), object[:len(object)-1]...)
	shown = append(shown, `,"group":"`+e.Group().Name()+`","id":"`...)
	return append(e.Position().AppendTo(shown), `"}`...)
}

// journal is what the events of a job have added up to, oldest first. What comes under the key of an
// earlier entry takes its place, since a task that is tried again says again what it said.
type journal struct {
	entries []json.RawMessage
	places  map[string]int
}

// add enters v; with an empty key it replaces nothing.
func (j *journal) add(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return // what came as JSON goes as JSON
	}
	if i, known := j.places[key]; known {
		j.entries[i] = b
		return
	}
	if key != "" {
		if j.places == nil {
			j.places = make(map[string]int)
		}
		j.places[key] = len(j.entries)
	}
	j.entries = append(j.entries, b)
}

// newest returns the newest entries that fit into a first state. It is never nil, so that pages see
// a list.
func (j *journal) newest() []json.RawMessage {
	first, size := len(j.entries), 0
	for first > 0 && size+len(j.entries[first-1]) <= stateBytes {
		first--
		size += len(j.entries[first])
	}
	return append([]json.RawMessage{}, j.entries[first:]...)
}
