package jobs

import (
	"context"
	"maps"
	"net/url"

	"orgcast/internal/task"
)

// listedTitle bounds a title in the list of pages, in bytes, so that a full list fits into an
// event.
const listedTitle = 200

// crawl follows the links of the demo's own pages. It sends a heartbeat for each page. Every update
// lists all pages so far, because a later viewer gets only the last update.
func (j *jobs) crawl(ctx context.Context, job *task.Job) (any, error) {
	p, first, err := j.tour(job)
	if err != nil {
		return nil, err
	}
	if err := job.Progress(ctx, frame{"type": "event", "event_name": "crawl_started"}); err != nil {
		return nil, err
	}
	pages, broken, size := 0, 0, 0
	visited := []frame{}
	update := func(kind string, more frame) frame {
		data := frame{
			"update_type": kind, "crawl_id": p.CrawlID, "start_url": first.String(),
			"pages_crawled": pages, "broken": broken, "bytes": size, "heartbeats": pages, "visited": visited,
		}
		maps.Copy(data, more)
		return frame{"type": "crawl_update", "data": data}
	}
	err = newSite(j.Site).walk(ctx, first, p.Pages, func(u *url.URL, f *fetched, err error, known int) error {
		pages++
		found := frame{"url": u.String(), "pages_found": known, "progress": percent(pages, known)}
		if err != nil {
			broken++
			found["status_code"], found["title"] = 0, ""
		} else {
			size += f.bytes
			found["status_code"], found["title"], found["page_bytes"], found["links"] = f.status, "", f.bytes, 0
			if f.status >= 400 {
				broken++
			}
			if f.page != nil {
				found["title"], found["links"] = f.page.title, len(f.page.links)
			}
		}
		title, _ := found["title"].(string)
		visited = append(visited, frame{
			"url": found["url"], "status_code": found["status_code"], "title": clip(title, listedTitle), "links": found["links"],
		})
		if err := job.Progress(ctx, frame{"type": "heartbeat", "count": pages}); err != nil {
			return err
		}
		if err := j.pause(ctx); err != nil {
			return err
		}
		return job.Progress(ctx, update("page", found))
	})
	if err != nil {
		return nil, walked(err)
	}
	if err := job.Progress(ctx, frame{"type": "event", "event_name": "crawl_finished"}); err != nil {
		return nil, err
	}
	return update("complete", frame{"progress": 100}), nil
}

func crawlFailed(_ *task.Job, code string) any {
	return frame{"type": "crawl_update", "data": frame{"update_type": "error", "code": code, "message": explain(code)}}
}
