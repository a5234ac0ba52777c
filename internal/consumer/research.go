package consumer

import (
	"context"
	"encoding/json"
	"time"

	"orgcast/internal/event"
)

// Research shows a research job at /ws/research/{id:int}/: the state so far, then each
// status_update, step_update and report_update. A page may cancel it.
type Research struct {
	Quiet
	Dispatcher Dispatcher
	Requests   Requests
}

var (
	_ MessageHandler = Research{}
	_ EventHandler   = Research{}
)

// Connect joins the job's group and sends its state.
func (r Research) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, researchGroup(c), foldResearch(c.Param("id")))
}

// ReceiveMessage handles get_state and cancel_research.
func (r Research) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	switch m.Type {
	case "get_state":
		return r.Connect(ctx, c)
	case "cancel_research":
		return r.cancel(ctx, c, m)
	default:
		return ErrUnknownType
	}
}

func researchGroup(c Conn) string { return "research_" + c.Param("id") }

// foldResearch makes the state of the job called id from its updates, its steps, and the last
// report_update.
func foldResearch(id string) func(history []*event.Event) any {
	return func(history []*event.Event) any {
		research := newSum(fields{
			"id": json.RawMessage(id), "status": rawText(statusPending), "message": rawText(""), "progress": json.RawMessage("0"),
			"query": rawNull(), "created_at": rawNull(), "error": rawNull(),
		})
		if len(history) > 0 {
			began := time.UnixMilli(int64(history[0].Position().Milliseconds())).UTC().Format(time.RFC3339) //nolint:gosec // until the year 292278994
			research.defaults["created_at"] = rawText(began)
		}
		report := make(fields)
		var steps journal
		for _, e := range history {
			switch e.Type() {
			case "status_update":
				if u, ok := read(e, kinds{"status": isText, "message": isText, "progress": isNumber, "query": isText}); ok {
					addResearch(research, u)
				}
			case "step_update":
				if u, ok := read(e, kinds{"step_number": isNumber}); ok {
					steps.add(u.id("step_number"), u.object(""))
				}
			case "report_update":
				if u, ok := read(e, nil); ok {
					report = u
				}
			case typeTaskFailed:
				research.fail(statusFailed, e)
			}
		}
		report["research"], report["steps"] = research.object(""), steps.list()
		return report.object("initial_state")
	}
}

// addResearch adds a status_update. The message of a failed research is its error, unless the
// update has an error.
func addResearch(research *sum, u fields) {
	_, hasError := u["error"]
	research.addStatus(u)
	if !hasError && textOf(u["status"]) == statusFailed && !isNull(u["message"]) {
		research.set("error", u["message"])
	}
}
