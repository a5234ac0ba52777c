package consumer

import (
	"context"

	"orgcast/internal/event"
)

// Crawl shows a crawl at /ws/crawl/{id:id}/: the last update, then each heartbeat, crawl_update and
// event.
type Crawl struct{ Quiet }

var _ MessageHandler = Crawl{}

// Connect joins the crawl's group and sends its last update.
func (Crawl) Connect(ctx context.Context, c Conn) error {
	return show(ctx, c, "crawl_"+c.Param("id"), func(history []*event.Event) any {
		last, failed := newestOf(history, "crawl_update")
		if last != nil && failed == nil {
			return last
		}
		return foldCrawl(last, failed)
	})
}

// foldCrawl makes the first frame of a crawl that has no update yet, or that failed after its last
// update.
func foldCrawl(last, failed *event.Event) any {
	update, data := make(fields), make(fields)
	if last != nil {
		update, _ = read(last, nil)
		if said, ok := update.inside("data", nil); ok {
			data = said
		}
	}
	data["update_type"] = rawText(statusPending)
	if failed != nil {
		data["update_type"], data["error"] = rawText(statusFailed), rawText(failureOf(failed))
	}
	update["data"] = data.object("")
	return update.object("crawl_update")
}

// ReceiveMessage knows no types. JSON answers pings.
func (Crawl) ReceiveMessage(context.Context, Conn, event.Message) error { return ErrUnknownType }
