package consumer

import (
	"context"

	"orgcast/internal/event"
)

// Crawl shows a crawl at /ws/crawl/{id:id}/: the last update, then each heartbeat, crawl_update and
// event.
type Crawl struct{ Quiet }

var _ MessageHandler = Crawl{}

// crawlUpdate is the first frame of a crawl that has said nothing yet, or that was given up.
type crawlUpdate struct {
	Type string    `json:"type"` // "crawl_update"
	Data crawlData `json:"data"`
}

type crawlData struct {
	UpdateType string `json:"update_type"`
	Error      string `json:"error,omitempty"`
}

// Connect joins the crawl's group and sends its last update.
func (Crawl) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "crawl_"+c.Param("id"), func(history []*event.Event) any {
		if code, ok := givenUp(history, "crawl_update"); ok {
			return crawlUpdate{Type: "crawl_update", Data: crawlData{UpdateType: statusFailed, Error: code}}
		}
		if last, ok := newestOf(c, history, "crawl_update"); ok {
			return last
		}
		return crawlUpdate{Type: "crawl_update", Data: crawlData{UpdateType: statusPending}}
	})
}

// ReceiveMessage knows no messages: ping is answered for all consumers.
func (Crawl) ReceiveMessage(context.Context, Conn, event.Message) error { return ErrUnknownType }
