package consumer

import (
	"cmp"
	"context"
	"encoding/json"

	"orgcast/internal/event"
)

// MetaTagsTask shows a task that reads the meta tags of a site, at /ws/meta-tags/task/{id:id}/: the
// last status, then each progress_update and status_update.
type MetaTagsTask struct{ Quiet }

var _ MessageHandler = MetaTagsTask{}

// Connect joins the task's group and sends its last status.
func (MetaTagsTask) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "metatags_task_"+c.Param("id"), foldMetaTags)
}

// ReceiveMessage handles check_status.
func (t MetaTagsTask) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	if m.Type != "check_status" {
		return ErrUnknownType
	}
	return t.Connect(ctx, c)
}

// metaTagsStatus is the first frame of a task.
type metaTagsStatus struct {
	Type     string          `json:"type"` // "status_update"
	Status   string          `json:"status"`
	Message  string          `json:"message"`
	Result   json.RawMessage `json:"result"`
	Progress json.RawMessage `json:"progress"`
}

func foldMetaTags(history []*event.Event) any {
	state := metaTagsStatus{Type: "status_update", Status: statusPending}
	for _, e := range history {
		switch e.Type() {
		case "progress_update":
			if u, ok := said[struct{ Progress json.RawMessage }](e); ok {
				state.Progress = u.Progress
				if state.Status == statusPending {
					state.Status = statusRunning
				}
			}
		case "status_update":
			if u, ok := said[struct {
				Status, Message string
				Result          json.RawMessage
			}](e); ok {
				state.Status, state.Message, state.Result = cmp.Or(u.Status, state.Status), u.Message, u.Result
			}
		case typeTaskFailed:
			state.Status, state.Message = statusFailed, failureOf(e)
		}
	}
	return state
}
