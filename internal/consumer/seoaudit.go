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
		return c.Send(messageFrame{Type: "test", Message: "connected"})
	default:
		return ErrUnknownType
	}
}

// auditStatus is the first frame of an audit.
type auditStatus struct {
	Type string    `json:"type"` // "audit.status"
	Data auditData `json:"data"`
}

type auditData struct {
	Status        string          `json:"status"`
	Progress      float64         `json:"progress"`
	Error         *string         `json:"error"`
	PagesAnalyzed int             `json:"pages_analyzed"`
	IssuesFound   int             `json:"issues_found"`
	RecentIssues  json.RawMessage `json:"recent_issues,omitempty"`
	Results       json.RawMessage `json:"results,omitempty"`
}

func foldAudit(history []*event.Event) any {
	state := auditStatus{Type: "audit.status", Data: auditData{Status: statusPending}}
	data := &state.Data
	for _, e := range history {
		switch e.Type() {
		case "audit.update":
			if u, ok := said[struct {
				Data struct {
					Status          string
					PercentComplete *float64        `json:"percent_complete"`
					PagesAnalyzed   *int            `json:"pages_analyzed"`
					IssuesFound     *int            `json:"issues_found"`
					RecentIssues    json.RawMessage `json:"recent_issues"`
				}
			}](e); ok {
				data.Status, data.Error, data.RecentIssues = cmp.Or(u.Data.Status, statusRunning), nil, u.Data.RecentIssues
				keep(&data.Progress, u.Data.PercentComplete)
				keep(&data.PagesAnalyzed, u.Data.PagesAnalyzed)
				keep(&data.IssuesFound, u.Data.IssuesFound)
			}
		case "audit.complete":
			if u, ok := said[struct {
				Data struct {
					Status  string
					Results json.RawMessage
				}
			}](e); ok {
				data.Status, data.Results, data.Progress, data.Error = cmp.Or(u.Data.Status, statusCompleted), u.Data.Results, 100, nil
			}
		case "audit.error":
			if u, ok := said[struct{ Message string }](e); ok {
				data.Status, data.Error = statusFailed, &u.Message
			}
		case typeTaskFailed:
			code := failureOf(e)
			data.Status, data.Error = statusFailed, &code
		}
	}
	return state
}
