package consumer

import (
	"cmp"
	"context"
	"encoding/json"

	"orgcast/internal/event"
)

// CrewExecution shows one run of a crew at /ws/crew_execution/{id:id}/: all its messages so far, then
// each crew_execution_update with the new ones. Whoever watches may answer what the run asks for.
type CrewExecution struct {
	Quiet
	Inputs Inputs
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
	return humanInput(ctx, c, m, x.Inputs, c.Param("id"))
}

// crewExecutionState is the first frame of a run.
type crewExecutionState struct {
	Type              string            `json:"type"` // "initial_state"
	Status            string            `json:"status"`
	Messages          []json.RawMessage `json:"messages"`
	HumanInputRequest json.RawMessage   `json:"human_input_request"`
}

func foldCrewExecution(history []*event.Event) any {
	state := crewExecutionState{Type: "initial_state", Status: crewPending}
	var messages journal
	for _, e := range history {
		switch e.Type() {
		case "crew_execution_update":
			u, ok := said[struct {
				Status            string
				Messages          []json.RawMessage
				HumanInputRequest json.RawMessage `json:"human_input_request"`
			}](e)
			if !ok {
				continue
			}
			// A request is open until the run says something else.
			state.Status, state.HumanInputRequest = cmp.Or(u.Status, state.Status), u.HumanInputRequest
			for _, message := range u.Messages {
				var m struct{ ID ident }
				_ = json.Unmarshal(message, &m) // one without an id stands for itself
				messages.add(string(m.ID), message)
			}
		case typeTaskFailed:
			state.Status, state.HumanInputRequest = crewFailed, nil
		}
	}
	state.Messages = messages.newest()
	return state
}
