package consumer

import (
	"cmp"
	"context"
	"encoding/json"

	"orgcast/internal/event"
)

// SEOAudit shows the audit of a site at /ws/seo_audit/{id:int}/: audit.status so far, then each
// audit.update until audit.complete or audit.error.
type SEOAudit struct{ Quiet }

var _ MessageHandler = SEOAudit{}

// Connect joins the audit's group and sends its status.
func (SEOAudit) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "audit_"+c.Param("id"), foldAudit)
}

// ReceiveMessage handles get_status and test.
func (a SEOAudit) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	switch m.Type {
	case "get_status":
		return a.Connect(ctx, c)
	case "test":
		in := struct{ Message string }{"connected"}
		if err := m.Decode(&in); err != nil {
			return err
		}
		return c.Send(messageFrame{Type: "test", Message: in.Message})
	default:
		return ErrUnknownType
	}
}

// foldAudit makes the status of an audit from the data of its events. percent_complete is called
// progress there. Other fields of the events go next to data.
func foldAudit(history []*event.Event) any {
	data := newSum(fields{
		"status": rawText(statusPending), "progress": json.RawMessage("0"), "error": rawNull(),
		"pages_analyzed": json.RawMessage("0"), "issues_found": json.RawMessage("0"),
	})
	beside := newSum(fields{"data": rawNull()})
	for _, e := range history {
		if e.Type() == typeTaskFailed {
			data.fail(statusFailed, e)
			continue
		}
		u, ok := read(e, kinds{"data": isObject})
		if !ok {
			continue
		}
		said, ok := u.inside("data", kinds{"status": isText, "percent_complete": isNumber, "pages_analyzed": isNumber, "issues_found": isNumber})
		if !ok || !addAudit(data, e.Type(), u, said) {
			continue
		}
		delete(u, "data")
		delete(u, "error")
		delete(beside.fields, "code") // these belong to the error of an earlier event
		delete(beside.fields, "message")
		beside.add(u)
	}
	beside.set("data", data.object(""))
	return beside.object("audit.status")
}

// addAudit adds the data of an event, and reports whether the event belongs to an audit.
func addAudit(data *sum, typ string, u, said fields) bool {
	former := data.status()
	percent := said["percent_complete"]
	delete(said, "percent_complete")
	reason := auditError(u, said)
	delete(said, "error")
	switch typ {
	case "audit.update":
		if former == statusPending || former == statusCompleted || former == statusFailed {
			former = statusRunning
		}
	case "audit.complete":
		former = statusCompleted
		if isNull(percent) {
			percent = json.RawMessage("100")
		}
	case "audit.error":
		former = statusFailed
		if isNull(reason) {
			reason = rawText(cmp.Or(textOf(said["message"]), textOf(u["message"])))
		}
	default:
		return false
	}
	if isNull(said["status"]) {
		said["status"] = rawText(former)
	}
	data.addStatus(said)
	if !isNull(percent) {
		data.set("progress", percent)
	}
	if !isNull(reason) {
		data.set("error", reason)
	}
	return true
}

// auditError returns the error in an event, in data or next to it.
func auditError(u, said fields) json.RawMessage {
	if reason := said["error"]; !isNull(reason) {
		return reason
	}
	return u["error"]
}
