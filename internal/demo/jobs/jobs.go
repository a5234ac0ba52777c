// Package jobs does the work behind the demo's pages: audits and crawls of the demo's own pages,
// optimization of pictures, research in the project's documents, and a crew and a chat that play a
// script and say so. Each is a [task.Kind]. It publishes the frames that browsers see.
//
// Nothing here reaches beyond the demo. Pages are fetched only from its own origin, and everything
// else is in the binary or in the organization's store.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

// The kinds of work.
const (
	KindAudit          = "seo_audit"
	KindMetaTags       = "metatags"
	KindCrawl          = "crawl"
	KindOptimization   = "optimization"
	KindResearch       = "research"
	KindCancelResearch = "cancel_research"
	KindCrew           = "crew"
	KindChat           = "chat"
	KindChatEdit       = "chat_edit"
)

// Codes of failures, which clients see. They are stable.
const (
	codeBadPayload  = "bad_payload"
	codeForeignURL  = "foreign_url"
	codeUnreachable = "unreachable"
	codeNoPicture   = "no_picture"
	codeNoInput     = "no_input"
)

// Statuses of work, as in frames.
const (
	statusRunning   = "running"
	statusCompleted = "completed"
	statusFailed    = "failed"
	statusCancelled = "cancelled"
)

// ErrOptions is returned by [Kinds] if a part is missing.
var ErrOptions = errors.New("jobs: an option is missing")

// Options are the parts that the work needs.
type Options struct {
	// Site is the origin of the demo, such as http://127.0.0.1:8080. Only its pages are crawled.
	// Required.
	Site *url.URL
	// Asks are the questions to people. Required.
	Asks *task.Asks
	// Pace is the pause between two steps, so that a person can follow. 0 means none.
	Pace time.Duration
}

// Kinds returns the kinds of work. Their worker needs [Tools].
func Kinds(o Options) (map[string]task.Kind, error) {
	if o.Site == nil || o.Site.Host == "" || o.Asks == nil {
		return nil, ErrOptions
	}
	j := &jobs{Options: o, docs: newLibrary()}
	return map[string]task.Kind{
		KindAudit:          {Run: j.audit, Failed: auditFailed},
		KindMetaTags:       {Run: j.metaTags, Failed: metaTagsFailed},
		KindCrawl:          {Run: j.crawl, Failed: crawlFailed},
		KindOptimization:   {Run: j.optimize, Failed: optimizationFailed},
		KindResearch:       {Run: j.research, Failed: researchFailed},
		KindCancelResearch: {Run: j.cancelResearch, Failed: cancelFailed},
		KindCrew:           {Run: j.crew, Failed: crewFailed},
		KindChat:           {Run: j.chat, Failed: chatFailed},
		KindChatEdit:       {Run: j.chatEdit, Failed: chatFailed},
	}, nil
}

// Tools returns the tools of the scripted agents.
func Tools() map[string]task.Tool {
	docs := newLibrary()
	return map[string]task.Tool{toolSearch: docs.search}
}

// jobs is shared by the handlers. It does not change while they run.
type jobs struct {
	Options

	docs *library
}

// frame is an event for browsers.
type frame = map[string]any

// pause lets people watch. It returns early, with the cause, if the work must stop.
func (j *jobs) pause(ctx context.Context) error {
	if j.Pace <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(j.Pace)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// payload parses the payload of a job. A payload that is not an object, or has fields of unexpected
// kinds, fails the job for good.
func payload[T any](job *task.Job) (p T, err error) {
	if json.Unmarshal(job.Payload, &p) != nil {
		return p, task.Fail(codeBadPayload)
	}
	return p, nil
}

// tour is the payload of work that walks the site. The kind decides which fields count.
type tour struct {
	URL     string `json:"url"`
	Pages   int    `json:"max_pages"`
	CrawlID string `json:"crawl_id"`
}

// tour parses the payload, and returns the first address.
func (j *jobs) tour(job *task.Job) (t tour, first *url.URL, err error) {
	if t, err = payload[tour](job); err != nil {
		return tour{}, nil, err
	}
	if first, err = resolve(j.Site, t.URL); err != nil {
		return tour{}, nil, task.Fail(codeForeignURL)
	}
	return t, first, nil
}

// identifiers fails the job unless all ids are valid, so that they can be part of the name of a
// group or a stored value.
func identifiers(ids ...string) error {
	for _, id := range ids {
		if !orgctx.ValidID(id) {
			return task.Fail(codeBadPayload)
		}
	}
	return nil
}

// percent returns how much of a whole is done, from 0 to 100.
func percent(done, of int) int {
	if of <= 0 {
		return 100
	}
	return min(100*done/of, 100)
}

// clip shortens text to about limit bytes, between words if possible.
func clip(text string, limit int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= limit {
		return text
	}
	cut := strings.LastIndexByte(text[:limit+1], ' ')
	if cut < limit/2 {
		cut = limit
	}
	return strings.ToValidUTF8(text[:cut], "") + "…"
}

// explain returns a text for people for a code.
func explain(code string) string {
	switch code {
	case codeBadPayload:
		return "The request does not have the expected form."
	case codeForeignURL:
		return "The demo fetches only its own pages."
	case codeUnreachable:
		return "The first page could not be fetched."
	case codeNoPicture:
		return "The image does not exist or cannot be read."
	case codeNoInput:
		return "Nobody answered in time."
	case task.CodeTimeout:
		return "This took too long."
	default:
		return "Something went wrong."
	}
}
