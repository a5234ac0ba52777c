package consumer

import (
	"context"
	"encoding/json"
	"slices"

	"orgcast/internal/event"
)

// CrewKanban shows the board of a crew at /ws/crew/{id:id}/kanban/: the runs that are open, then each
// execution_update, agent_step, human_input_request and task_complete. Whoever watches may answer
// what a run asks for.
type CrewKanban struct {
	Quiet
	Inputs Inputs
}

var _ MessageHandler = CrewKanban{}

// Connect joins the board's group and sends the open runs.
func (CrewKanban) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "crew_"+c.Param("id")+"_kanban", foldBoard)
}

// ReceiveMessage handles human_input.
func (k CrewKanban) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	if m.Type != "human_input" {
		return ErrUnknownType
	}
	return humanInput(ctx, c, m, k.Inputs, "")
}

// boardState is the first frame of a board.
type boardState struct {
	Type       string            `json:"type"` // "initial_state"
	Executions []json.RawMessage `json:"executions"`
}

// boardEntry is a run on the board, as an execution_update shows it.
type boardEntry struct {
	ExecutionID       ident           `json:"execution_id"`
	Status            string          `json:"status"`
	TaskIndex         *int            `json:"task_index"`
	Stage             json.RawMessage `json:"stage,omitempty"`
	HumanInputRequest json.RawMessage `json:"human_input_request"`
}

func foldBoard(history []*event.Event) any {
	ended := []string{crewCompleted, crewFailed, crewCancelled}
	var order []ident
	open := make(map[ident]boardEntry) // and those that were: their place in order is kept
	for _, e := range history {
		u, ok := said[boardEntry](e)
		if !ok || u.ExecutionID == "" {
			continue
		}
		entry, known := open[u.ExecutionID]
		switch e.Type() {
		case "execution_update":
			if len(u.Stage) == 0 {
				u.Stage = entry.Stage
			}
			entry = u
		case "human_input_request":
			entry.ExecutionID, entry.TaskIndex, entry.HumanInputRequest = u.ExecutionID, u.TaskIndex, e.Payload()
			if !known {
				entry.Status = crewRunning
			}
		case "task_complete":
			entry.Status = crewCompleted
		default:
			continue
		}
		if !known {
			order = append(order, u.ExecutionID)
		}
		open[u.ExecutionID] = entry
	}
	var board journal
	for _, id := range order {
		if entry := open[id]; !slices.Contains(ended, entry.Status) {
			board.add("", entry)
		}
	}
	return boardState{Type: "initial_state", Executions: board.newest()}
}
