package jobs

import (
	"cmp"
	"context"
	"net/http"
	"net/url"

	"orgcast/internal/task"
)

// metaPages is how many pages get meta tags.
const metaPages = 10

// pageTags holds the meta tags of a page, and suggested ones.
type pageTags struct {
	URL         string            `json:"url"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Properties  map[string]string `json:"properties"`
	Missing     []string          `json:"missing"`
	Suggested   map[string]string `json:"suggested"`
}

// metaTags reads the meta tags of a page and of the pages to which it links, and suggests missing
// ones from their headings and first paragraphs.
func (j *jobs) metaTags(ctx context.Context, job *task.Job) (any, error) {
	_, first, err := j.tour(job)
	if err != nil {
		return nil, err
	}
	tell := func(step, action string, done, known int) error {
		return job.Progress(ctx, frame{"type": "progress_update", "progress": frame{
			"percent": percent(done, known), "step": step, "action": action,
			"urls_found": known, "urls_processed": done, "total_urls": known,
		}})
	}
	if err := tell("fetch", "Fetching "+first.String(), 0, 1); err != nil {
		return nil, err
	}
	pages, done, missing := []pageTags{}, 0, 0
	err = newSite(j.Site).walk(ctx, first, metaPages, func(u *url.URL, f *fetched, err error, known int) error {
		done++
		if err == nil && f.page != nil && f.status == http.StatusOK {
			tags := tagsOf(u, f.page)
			missing += len(tags.Missing)
			pages = append(pages, tags)
		}
		if err := j.pause(ctx); err != nil {
			return err
		}
		return tell("analyze", "Read "+u.String(), done, known)
	})
	if err != nil {
		return nil, walked(err)
	}
	return frame{
		"type": "status_update", "status": statusCompleted, "message": "The meta tags have been read.",
		"result": frame{"url": first.String(), "pages": pages, "missing": missing},
	}, nil
}

// tagsOf reads the tags of a page.
func tagsOf(u *url.URL, p *page) pageTags {
	t := pageTags{
		URL: u.String(), Title: p.title, Description: p.description, Properties: p.properties,
		Missing: []string{}, Suggested: make(map[string]string),
	}
	heading := ""
	if len(p.headings) > 0 {
		heading = p.headings[0]
	}
	title := clip(cmp.Or(p.title, heading, u.Path), 60)
	description := clip(cmp.Or(p.description, p.paragraph, title), 160)
	for _, tag := range []struct{ name, value, suggestion string }{
		{"title", p.title, title},
		{"description", p.description, description},
		{"og:title", p.properties["og:title"], title},
		{"og:description", p.properties["og:description"], description},
		{"og:url", p.properties["og:url"], u.String()},
	} {
		if tag.value == "" {
			t.Missing = append(t.Missing, tag.name)
			t.Suggested[tag.name] = tag.suggestion
		}
	}
	return t
}

func metaTagsFailed(_ *task.Job, code string) any {
	return frame{"type": "status_update", "status": statusFailed, "result": nil, "code": code, "message": explain(code)}
}
