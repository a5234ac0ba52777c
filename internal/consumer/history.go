package consumer

import (
	"context"
	"encoding/json"
	"errors"

	"orgcast/internal/event"
)

// How many events a page of a history has at most.
const (
	defaultPage = 50
	largestPage = 1000
)

// historyQuestion asks for a page of the history of a group.
type historyQuestion struct {
	Group string `json:"group"`
	// Before is the position before which the page ends, nil for the end of the history.
	Before    *string   `json:"before"`
	Limit     *int      `json:"limit"`
	RequestID requestID `json:"request_id"`
}

// place returns where the page ends, and how many events it has at most.
func (q *historyQuestion) place() (before event.Position, limit int, ok bool) {
	limit = defaultPage
	if q.Limit != nil {
		limit = *q.Limit
	}
	if q.Before != nil {
		var err error
		if before, err = event.ParsePosition(*q.Before); err != nil || before.IsZero() {
			return before, limit, false
		}
	}
	return before, limit, limit >= 1 && limit <= largestPage
}

// historyFrame is a page of the history of a group, oldest event first.
type historyFrame struct {
	Type      string     `json:"type"` // "history"
	Group     string     `json:"group"`
	Events    []recorded `json:"events"`
	More      bool       `json:"more"` // the history goes back further
	RequestID requestID  `json:"request_id,omitempty"`
}

// recorded is an event of a page.
type recorded struct {
	Event json.RawMessage `json:"event"`
	ID    string          `json:"id"` // its position
}

// pageOfHistory answers with events of a group that the page has joined, so that it may see no more
// than with its subscription. Other groups look as if they did not exist.
func pageOfHistory(ctx context.Context, c Conn, m event.Message) error {
	pages, ok := c.(Pager)
	if !ok || c.Protocol() != ProtocolV1 {
		return ErrUnknownType
	}
	var in historyQuestion
	if err := m.Decode(&in); err != nil {
		return err
	}
	before, limit, ok := in.place()
	if !ok {
		return in.refuse(c, CodeBadMessage)
	}
	err := pages.PageBefore(ctx, in.Group, before, limit, func(events []*event.Event, more bool) error {
		frame := historyFrame{Type: "history", Group: in.Group, Events: make([]recorded, len(events)), More: more, RequestID: in.RequestID}
		for i, e := range events {
			frame.Events[i] = recorded{Event: json.RawMessage(e.Payload()), ID: e.Position().String()}
		}
		return c.Send(frame)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnknownType):
		return err
	case errors.Is(err, ErrNotFound):
		return in.refuse(c, CodeUnknownGroup)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return in.refuse(c, CodeUnavailable)
	}
}

// refuse answers with the error frame of a code. A name that is not valid is not repeated.
func (q *historyQuestion) refuse(c Conn, code string) error {
	frame := ErrorFrame{Type: "error", Code: code, Message: errorText(code), RequestID: string(q.RequestID)}
	if event.ValidGroupName(q.Group) {
		frame.Group = q.Group
	}
	return c.Send(frame)
}
