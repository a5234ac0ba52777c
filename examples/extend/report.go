package main

import (
	"context"
	"encoding/json"

	"orgcast"
)

// report shows how a report grows, and has it built. docs/consumers.md has the same as a declared route.
type report struct {
	orgcast.Quiet

	dispatcher orgcast.Dispatcher
	requests   orgcast.Requests
}

var (
	_ orgcast.MessageHandler = report{}
	_ orgcast.EventHandler   = report{}
)

// shown has the fields of each event that pages see.
var shown = map[string][]string{
	"report_update":   {"status", "percent"},
	"report_complete": {"status", "url"},
}

// historyLength is how many events make the first frame.
const historyLength = 1000

// group is the name of the report's group, which is inside the organization of the connection.
func group(c orgcast.Conn) string { return "report_" + c.Param("id") }

// Connect joins the report's group and sends how far the report is.
func (report) Connect(ctx context.Context, c orgcast.Conn) error {
	return c.JoinWithHistory(ctx, group(c), historyLength, func(history []*orgcast.Event) error {
		frame := map[string]json.RawMessage{}
		for _, e := range history {
			for name, value := range fieldsOf(e) {
				frame[name] = value
			}
		}
		if len(frame) == 0 {
			frame["status"] = json.RawMessage(`"pending"`)
		}
		frame["type"] = json.RawMessage(`"report_update"`)
		return c.Send(frame)
	})
}

// fieldsOf returns the fields of an event that pages see, nil if they see nothing of it.
func fieldsOf(e *orgcast.Event) map[string]json.RawMessage {
	names, ok := shown[e.Type()]
	var all map[string]json.RawMessage
	if !ok || json.Unmarshal(e.Payload(), &all) != nil {
		return nil
	}
	fields := map[string]json.RawMessage{}
	for _, name := range names {
		if value, ok := all[name]; ok {
			fields[name] = value
		}
	}
	return fields
}

// HandleEvent sends what pages see of an event instead of the event.
func (report) HandleEvent(_ context.Context, c orgcast.Conn, e *orgcast.Event) (forward bool) {
	if frame := fieldsOf(e); frame != nil {
		frame["type"], _ = json.Marshal(e.Type())
		if err := c.Send(frame); err != nil {
			c.End(err)
		}
	}
	return false
}

// ReceiveMessage handles get_state and build.
func (r report) ReceiveMessage(ctx context.Context, c orgcast.Conn, m orgcast.Message) error {
	switch m.Type {
	case "get_state":
		return r.Connect(ctx, c)
	case "build":
		return r.build(ctx, c, m)
	}
	return orgcast.ErrUnknownType
}

// build hands the work over. The same request of the same user is the same work.
func (r report) build(ctx context.Context, c orgcast.Conn, m orgcast.Message) error {
	var asked struct {
		RequestID string `json:"request_id"`
	}
	if err := m.Decode(&asked); err != nil {
		return err
	}
	id, err := r.dispatch(ctx, c, asked.RequestID)
	if err != nil {
		return orgcast.Refuse(c, err, asked.RequestID)
	}
	return c.Send(map[string]string{"type": "task_accepted", "task_id": id, "request_id": asked.RequestID})
}

func (r report) dispatch(ctx context.Context, c orgcast.Conn, requestID string) (id string, err error) {
	request, err := r.requests.Begin(ctx, requestID, []string{"build", c.Param("id")})
	if err != nil || request.Done {
		return request.Work, err
	}
	work := orgcast.Work{
		Kind: "report_build", ID: request.Work, Group: group(c), User: c.Identity().UserID,
		Payload: map[string]json.RawMessage{"id": json.RawMessage(c.Param("id"))}, // a number, as the pattern says
	}
	if id, err = r.dispatcher.Dispatch(ctx, work); err != nil {
		return "", err
	}
	return id, r.requests.Finish(ctx, request)
}
