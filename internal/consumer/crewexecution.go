package consumer

import (
	"context"
	"encoding/json"

	"orgcast/internal/event"
)

// CrewExecution shows one run of a crew at /ws/crew_execution/{id:id}/: all its messages so far,
// then each crew_execution_update with the new ones. Every viewer may answer the run's questions.
type CrewExecution struct {
	Quiet
	Inputs   Inputs
	Requests Requests
}

var _ MessageHandler = CrewExecution{}

// Connect joins the run's group and sends its messages.
func (CrewExecution) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "crew_execution_"+c.Param("id"), foldCrewExecution)
}

// ReceiveMessage handles human_input.
func (x CrewExecution) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	if m.Type != "human_input" {
		return ErrUnknownType
	}
	return answers{x.Inputs, x.Requests, c.Param("id")}.receive(ctx, c, m)
}

// foldCrewExecution makes the state of a run, with all its messages, oldest first.
func foldCrewExecution(history []*event.Event) any {
	run := newSum(fields{"status": rawText(crewPending), "human_input_request": rawNull()})
	var messages journal
	for _, e := range history {
		switch e.Type() {
		case "crew_execution_update":
			var said []json.RawMessage
			u, ok := read(e, kinds{"status": isText, "messages": isList})
			if !ok {
				continue
			}
			_ = json.Unmarshal(u["messages"], &said) // null adds nothing
			for _, message := range said {
				var m fields
				_ = json.Unmarshal(message, &m) // a message without an id is always a new one
				messages.add(m.id("id"), message)
			}
			// A request is open until the next update of the run.
			run.set("human_input_request", rawNull())
			delete(u, "messages")
			run.addStatus(u)
		case typeTaskFailed:
			run.fail(crewFailed, e)
			run.set("human_input_request", rawNull())
		}
	}
	run.defaults["messages"] = messages.list()
	return run.object("initial_state")
}
