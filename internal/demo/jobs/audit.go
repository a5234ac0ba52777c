package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf8"

	"orgcast/internal/task"
)

// issue is a problem that an audit found.
type issue struct {
	URL      string `json:"url"`
	Code     string `json:"code"`
	Severity string `json:"severity"` // high, medium, low
	Message  string `json:"message"`
}

const (
	// recentIssues is how many of the newest issues an update shows.
	recentIssues = 5
	// mostIssues is how many issues the result lists, so that it stays an event of ordinary size.
	mostIssues = 200
)

// audit checks pages for problems that keep people and search engines from finding their way.
func (j *jobs) audit(ctx context.Context, job *task.Job) (any, error) {
	p, first, err := j.tour(job)
	if err != nil {
		return nil, err
	}
	issues := []issue{}
	update := func(done, known int) error {
		return job.Progress(ctx, frame{"type": "audit.update", "data": frame{
			"percent_complete": percent(done, known), "pages_analyzed": done, "issues_found": len(issues), "status": statusRunning,
			"recent_issues": issues[max(len(issues)-recentIssues, 0):], "url": first.String(),
		}})
	}
	if err := update(0, 1); err != nil {
		return nil, err
	}
	pages := 0
	err = newSite(j.Site).walk(ctx, first, p.Pages, func(u *url.URL, f *fetched, err error, known int) error {
		pages++
		issues = append(issues, judge(u.String(), f, err)...)
		if err := j.pause(ctx); err != nil {
			return err
		}
		return update(pages, known)
	})
	if err != nil {
		return nil, walked(err)
	}
	bySeverity := map[string]int{"high": 0, "medium": 0, "low": 0}
	for _, i := range issues {
		bySeverity[i.Severity]++
	}
	return frame{"type": "audit.complete", "data": frame{"status": statusCompleted, "results": frame{
		"issues": issues[:min(len(issues), mostIssues)],
		"summary": frame{
			"url": first.String(), "pages_analyzed": pages, "issues_found": len(issues), "by_severity": bySeverity,
			"score": max(0, 100-(10*bySeverity["high"]+4*bySeverity["medium"]+bySeverity["low"])/max(pages, 1)),
		},
	}}}, nil
}

// judge lists the problems of a page.
func judge(address string, f *fetched, err error) (issues []issue) {
	add := func(code, severity, message string) {
		issues = append(issues, issue{URL: address, Code: code, Severity: severity, Message: message})
	}
	switch {
	case err != nil:
		add("not_fetched", "high", "The page could not be fetched.")
		return issues
	case f.status != http.StatusOK:
		add("bad_status", "high", fmt.Sprintf("The page answers with status %d.", f.status))
		return issues
	case f.page == nil:
		return nil // not an HTML page
	}
	p := f.page
	switch n := utf8.RuneCountInString(p.title); {
	case n == 0:
		add("title_missing", "high", "The page has no title.")
	case n > 60:
		add("title_long", "low", fmt.Sprintf("The title has %d characters; search engines show about 60.", n))
	}
	if p.titles > 1 {
		add("title_repeated", "medium", fmt.Sprintf("The page has %d titles.", p.titles))
	}
	switch n := utf8.RuneCountInString(p.description); {
	case n == 0:
		add("description_missing", "medium", "The page has no description.")
	case n > 160:
		add("description_long", "low", fmt.Sprintf("The description has %d characters; search engines show about 160.", n))
	}
	switch n := len(p.headings); {
	case n == 0:
		add("heading_missing", "medium", "The page has no first-level heading.")
	case n > 1:
		add("heading_repeated", "low", fmt.Sprintf("The page has %d first-level headings.", n))
	}
	if p.language == "" {
		add("language_missing", "medium", "The page does not declare its language, which screen readers need.")
	}
	if !p.viewport {
		add("viewport_missing", "medium", "The page does not declare a viewport for small screens.")
	}
	if p.canonical == "" {
		add("canonical_missing", "low", "The page does not declare its canonical address.")
	}
	if p.withoutText > 0 {
		add("image_text_missing", "medium", fmt.Sprintf("%d of %d pictures have no alternative text.", p.withoutText, p.images))
	}
	if f.took.Milliseconds() > 500 {
		add("slow", "low", fmt.Sprintf("The page took %d ms.", f.took.Milliseconds()))
	}
	return issues
}

// walked returns the error of a job for the error of a walk.
func walked(err error) error {
	switch {
	case errors.Is(err, errForeignURL):
		return task.Fail(codeForeignURL)
	case errors.Is(err, errUnfetched):
		return fmt.Errorf("%w: %w", task.Fail(codeUnreachable), err)
	default:
		return err
	}
}

func auditFailed(_ *task.Job, code string) any {
	return frame{"type": "audit.error", "code": code, "message": explain(code)}
}
