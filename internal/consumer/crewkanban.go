package consumer

import (
	"context"
	"slices"

	"orgcast/internal/event"
)

// CrewKanban shows the board of a crew at /ws/crew/{id:id}/kanban/: the open runs, then each
// execution_update, agent_step, human_input_request and task_complete. Every viewer may answer a
// run's questions. A CrewKanban serves one connection.
type CrewKanban struct {
	Quiet
	translated

	Inputs   Inputs
	Requests Requests

	ended endedRuns // Connect fills it, and then only the writer uses it
}

var (
	_ MessageHandler = (*CrewKanban)(nil)
	_ EventHandler   = (*CrewKanban)(nil)
)

// Connect joins the board's group and sends the open runs.
func (k *CrewKanban) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "crew_"+c.Param("id")+"_kanban", func(history []*event.Event) any {
		b := foldBoard(history)
		for _, id := range b.ends {
			if b.last[id].ended {
				k.ended.add(id)
			}
		}
		return b.object()
	})
}

// ReceiveMessage handles human_input.
func (k *CrewKanban) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	if m.Type != "human_input" {
		return ErrUnknownType
	}
	return answers{inputs: k.Inputs, requests: k.Requests}.receive(ctx, c, m)
}

// HandleEvent shows an agent_step as an execution_update, which pages of the original application
// know. It withholds events that must not be shown, such as an update without a status of a run
// that has ended: pages would take it for a new run.
func (k *CrewKanban) HandleEvent(_ context.Context, c Conn, e *event.Event) (forward bool) {
	id, u, ok := readBoard(e)
	if !ok {
		return k.forward(c, e, nil)
	}
	switch {
	case endsRun(e, u):
		k.ended.add(id)
	case says(e, u):
		k.ended.remove(id)
	case k.ended.has(id):
		return false
	}
	if e.Type() != "agent_step" {
		return k.forward(c, e, nil)
	}
	return k.forward(c, e, flatFrame(e, "execution_update", u))
}

// run is one run on a board.
type run struct {
	*sum

	ended bool
}

// board is the state of a board: each run that is or was open, in the order in which they began.
type board struct {
	runs []*run
	last map[string]*run // the newest run of each execution
	ends []string        // executions, in the order in which they ended
}

// readBoard returns the execution and the fields of an event about a run.
func readBoard(e *event.Event) (id string, u fields, ok bool) {
	switch e.Type() {
	case "execution_update", "agent_step", "human_input_request", "task_complete":
		u, ok = read(e, kinds{"status": isText, "task_index": isNumber})
		id = u.id("execution_id")
	}
	return id, u, ok && id != ""
}

// endsRun reports whether an event ends its run.
func endsRun(e *event.Event, u fields) bool {
	ends := slices.Contains([]string{crewCompleted, crewFailed, crewCancelled}, textOf(u["status"]))
	return e.Type() == "task_complete" || ends && e.Type() != "human_input_request"
}

// says reports whether an event that does not end its run means that an ended run begins again.
// Other events do not change an ended run.
func says(e *event.Event, u fields) bool {
	return e.Type() == "human_input_request" || !isNull(u["status"])
}

func foldBoard(history []*event.Event) *board {
	b := &board{last: make(map[string]*run)}
	for _, e := range history {
		if id, u, ok := readBoard(e); ok {
			b.add(id, e, u)
		}
	}
	return b
}

// object returns the first frame.
func (b *board) object() any {
	var open journal
	for _, r := range b.runs {
		if !r.ended {
			open.add("", r.object(""))
		}
	}
	return fields{"executions": open.list()}.object("initial_state")
}

// add adds an event of an execution. Until an event gives its status, the run counts as running.
func (b *board) add(id string, e *event.Event, u fields) {
	r := b.last[id]
	switch {
	case endsRun(e, u):
		b.end(id)
		return
	case r != nil && r.ended && !says(e, u):
		return
	case e.Type() == "human_input_request":
		u = fields{"execution_id": u["execution_id"], "task_index": u["task_index"], "human_input_request": e.Payload()}
		if isNull(u["task_index"]) {
			delete(u, "task_index")
		}
	default:
		// A request is open until the next update of the run.
		if _, ok := u["human_input_request"]; !ok {
			u["human_input_request"] = rawNull()
		}
	}
	if r == nil || r.ended { // it begins, or begins again
		r = &run{sum: newSum(fields{"status": rawText(crewRunning), "task_index": rawNull(), "human_input_request": rawNull()})}
		b.runs, b.last[id] = append(b.runs, r), r
	}
	r.addStatus(u)
}

// end marks the run of an execution as ended.
func (b *board) end(id string) {
	if b.last[id] == nil {
		b.last[id] = new(run)
	}
	b.last[id].ended = true
	b.ends = append(b.ends, id)
}
