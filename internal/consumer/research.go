package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"time"

	"orgcast/internal/event"
)

// Research shows a research job at /ws/research/{id:int}/: the state so far, then each
// status_update, step_update and report_update. A page may cancel it.
type Research struct {
	Quiet
	Dispatcher Dispatcher
}

var _ MessageHandler = Research{}

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
		return r.cancel(ctx, c)
	default:
		return ErrUnknownType
	}
}

// cancel leaves it to the worker to answer with cancel_response, since it alone knows whether there
// was something to cancel.
func (r Research) cancel(ctx context.Context, c Conn) error {
	ctx, cancel := promptly(ctx)
	defer cancel()
	_, err := r.Dispatcher.Dispatch(ctx, Work{
		Kind: "cancel_research", Group: researchGroup(c), User: c.Identity().UserID,
		Payload: map[string]string{"research_id": c.Param("id")},
	})
	if err != nil {
		return refused(c, err, "")
	}
	return nil
}

func researchGroup(c Conn) string { return "research_" + c.Param("id") }

// researchState is the first frame of a research job.
type researchState struct {
	Type     string            `json:"type"` // "initial_state"
	Research researchSummary   `json:"research"`
	Steps    []json.RawMessage `json:"steps"`
	Report   json.RawMessage   `json:"report,omitempty"`
}

type researchSummary struct {
	ID        json.Number `json:"id"`
	Status    string      `json:"status"`
	Message   string      `json:"message"`
	Progress  float64     `json:"progress"`
	Query     *string     `json:"query"`
	CreatedAt *string     `json:"created_at"`
	Error     *string     `json:"error"`
}

// foldResearch makes the state of the job called id.
func foldResearch(id string) func(history []*event.Event) any {
	return func(history []*event.Event) any {
		state := researchState{Type: "initial_state", Research: researchSummary{ID: json.Number(id), Status: statusPending}}
		if len(history) > 0 {
			began := time.UnixMilli(int64(history[0].Position().Milliseconds())).UTC().Format(time.RFC3339) //nolint:gosec // until the year 292278994
			state.Research.CreatedAt = &began
		}
		var steps journal
		for _, e := range history {
			switch e.Type() {
			case "status_update":
				if u, ok := said[researchStatus](e); ok {
					state.Research.take(u)
				}
			case "step_update":
				if u, ok := said[researchStep](e); ok {
					steps.add(u.key(), u)
				}
			case "report_update":
				if u, ok := said[struct{ Report json.RawMessage }](e); ok {
					state.Report = u.Report
				}
			case typeTaskFailed:
				code := failureOf(e)
				state.Research.Status, state.Research.Error = statusFailed, &code
			}
		}
		state.Steps = steps.newest()
		return state
	}
}

// researchStatus is what a status_update says.
type researchStatus struct {
	Status   string
	Message  string
	Progress *float64
	Query    *string // in the first one at the least
}

func (r *researchSummary) take(u researchStatus) {
	r.Status, r.Message, r.Error = cmp.Or(u.Status, r.Status), u.Message, nil
	keep(&r.Progress, u.Progress)
	if u.Query != nil {
		r.Query = u.Query
	}
	if u.Status == statusFailed {
		r.Error = &u.Message
	}
}

// researchStep is what a step_update says.
type researchStep struct {
	Step       json.RawMessage `json:"step"`
	StepNumber *int            `json:"step_number"`
}

// key tells steps apart; those without a number stand for themselves.
func (s researchStep) key() string {
	if s.StepNumber == nil {
		return ""
	}
	return strconv.Itoa(*s.StepNumber)
}
