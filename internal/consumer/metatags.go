package consumer

import (
	"context"

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

// foldMetaTags makes the status of a task, with the last progress. A task with any update counts as
// running.
func foldMetaTags(history []*event.Event) any {
	task := newSum(fields{"status": rawText(statusPending), "message": rawText(""), "result": rawNull(), "progress": rawNull()})
	for _, e := range history {
		switch e.Type() {
		case "progress_update", "status_update":
			u, ok := read(e, kinds{"status": isText, "message": isText})
			if !ok {
				continue
			}
			task.addStatus(u)
			if e.Type() == "progress_update" && task.status() == statusPending {
				task.set("status", rawText(statusRunning))
			}
		case typeTaskFailed:
			task.fail(statusFailed, e)
			task.set("message", task.get("error"))
		}
	}
	return task.object("status_update")
}
