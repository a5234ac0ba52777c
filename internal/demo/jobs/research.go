package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

const (
	// maxQuery is the longest question, in bytes.
	maxQuery = 500
	// findings is how many passages a report contains.
	findings = 6
	// stateLife is how long the outcome of a research is remembered, longer than any research
	// takes.
	stateLife = time.Hour
)

// errCancelled ends a research that a person canceled.
var errCancelled = errors.New("jobs: canceled")

// runOf returns the name, in the organization's store, of the task of a research's newest run.
func runOf(id string) string { return "research." + id + ".run" }

// outcomeOf returns the name of the outcome of a run. It is written once: if an end and a
// cancellation come together, the first one counts.
func outcomeOf(run string) string { return "research.run." + run + ".outcome" }

// decide sets the outcome of a run unless it has one, and returns the outcome.
func decide(ctx context.Context, store *task.Store, run, outcome string) (string, error) {
	name := outcomeOf(run)
	switch first, err := store.SetNew(ctx, name, []byte(outcome), stateLife); {
	case err != nil:
		return "", err
	case first:
		return outcome, nil
	}
	had, err := store.Get(ctx, name)
	return string(had), err
}

// research searches the project's documents for a question, one after the other, and writes a
// report of the findings.
func (j *jobs) research(ctx context.Context, job *task.Job) (any, error) {
	p, err := payload[struct {
		ResearchID string `json:"research_id"`
		Query      string `json:"query"`
	}](job)
	if err != nil {
		return nil, err
	}
	if err := identifiers(p.ResearchID); err != nil {
		return nil, err
	}
	if len(p.Query) > maxQuery {
		return nil, task.Fail(codeBadPayload)
	}
	if err := job.Store.Set(ctx, runOf(p.ResearchID), []byte(job.ID), stateLife); err != nil {
		return nil, err
	}
	report, err := j.search(ctx, job, p.ResearchID, p.Query)
	outcome := ""
	if err == nil {
		outcome, err = decide(ctx, job.Store, job.ID, statusCompleted)
	}
	switch {
	case errors.Is(err, errCancelled), err == nil && isCancelled(outcome):
		return cancelled(), nil
	case err != nil:
		return nil, err // it is tried again
	}
	if err := job.Progress(ctx, frame{"type": "report_update", "report": report}); err != nil {
		return nil, err
	}
	return frame{"type": "status_update", "status": statusCompleted, "message": "The report is ready.", "progress": 100}, nil
}

// isCancelled reports whether an outcome is a cancellation.
func isCancelled(outcome string) bool { return strings.HasPrefix(outcome, statusCancelled) }

// cancelled returns the end of a canceled research.
func cancelled() frame {
	return frame{"type": "status_update", "status": statusCancelled, "message": "The research was canceled.", "progress": 0}
}

// search searches the documents and returns the report.
func (j *jobs) search(ctx context.Context, job *task.Job, id, query string) (report frame, err error) {
	words := slices.Compact(slices.Sorted(slices.Values(wordsOf(query))))
	total := len(j.docs.documents) + 2
	number := 0
	step := func(title, text string) error {
		if err := j.goOn(ctx, job); err != nil {
			return err
		}
		number++
		err := job.Progress(ctx, frame{"type": "step_update", "step_number": number, "step": frame{
			"title": title, "content": text, "status": statusCompleted, "total_steps": total,
		}})
		if err != nil {
			return err
		}
		return job.Progress(ctx, frame{
			"type": "status_update", "status": statusRunning, "message": title, "progress": min(percent(number, total), 99),
		})
	}
	err = job.Progress(ctx, frame{
		"type": "status_update", "status": statusRunning, "message": "The research has started.", "progress": 0,
		"research_id": id, "query": query, "created_at": time.Now().UTC().Format(time.RFC3339),
	})
	if err != nil {
		return nil, err
	}
	if err := step("Read the question", fmt.Sprintf("It comes down to %d words: %s.", len(words), strings.Join(words, ", "))); err != nil {
		return nil, err
	}
	var all []hit
	for _, document := range j.docs.documents {
		hits := j.docs.find(words, document)
		all = append(all, hits...)
		text := "Nothing here."
		if len(hits) > 0 {
			text = fmt.Sprintf("%d passages, the best one under “%s”.", len(hits), hits[0].Section)
		}
		if err := step("Read "+document, text); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, betterFirst)
	best := append([]hit{}, all[:min(len(all), findings)]...)
	sources := []string{}
	for _, h := range best {
		if !slices.Contains(sources, h.Document) {
			sources = append(sources, h.Document)
		}
	}
	summary := fmt.Sprintf("%d of %d passages in %d documents have to do with it.", len(all), len(j.docs.passages), len(j.docs.documents))
	if err := step("Compare what was found", summary); err != nil {
		return nil, err
	}
	return frame{"title": query, "summary": summary, "findings": best, "sources": sources}, nil
}

// goOn pauses, and returns errCancelled if someone canceled the research. It checks at least once
// in each look interval, however long the pause is.
func (j *jobs) goOn(ctx context.Context, job *task.Job) error {
	const look = 200 * time.Millisecond
	for until := time.Now().Add(j.Pace); ; {
		outcome, err := job.Store.Get(ctx, outcomeOf(job.ID))
		switch {
		case isCancelled(string(outcome)):
			return errCancelled
		case err != nil && !errors.Is(err, task.ErrNotStored):
			return err
		}
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(left, look)):
		}
	}
}

// cancelResearch cancels a running research. The answer goes only to the connection that asked for
// it.
func (*jobs) cancelResearch(ctx context.Context, job *task.Job) (any, error) {
	p, err := payload[struct {
		ResearchID string `json:"research_id"`
	}](job)
	if err != nil {
		return nil, err
	}
	if err := identifiers(p.ResearchID); err != nil {
		return nil, err
	}
	answer := func(success bool, message string) (any, error) {
		return frame{"type": "cancel_response", "success": success, "message": message}, nil
	}
	run, err := job.Store.Get(ctx, runOf(p.ResearchID))
	switch {
	case errors.Is(err, task.ErrNotStored):
		return answer(false, "This research is not running.")
	case err != nil:
		return nil, err
	}
	// With the id of this task, so that a second attempt recognizes its own cancellation.
	ours := statusCancelled + " " + job.ID
	switch outcome, err := decide(ctx, job.Store, string(run), ours); {
	case err != nil:
		return nil, err
	case outcome == ours:
		return answer(true, "The research was canceled.")
	case isCancelled(outcome):
		return answer(false, "The research was already canceled.")
	default:
		return answer(false, "The research has already ended.")
	}
}

// researchFailed ends a failed research, unless someone canceled it before.
func researchFailed(job *task.Job, code string) any {
	// The worker passes no context here, because the task's may have ended. The store has its own
	// timeouts.
	ctx := orgctx.With(context.Background(), job.Organization())
	if outcome, err := decide(ctx, job.Store, job.ID, statusFailed); err == nil && isCancelled(outcome) {
		return cancelled()
	}
	return frame{"type": "status_update", "status": statusFailed, "message": explain(code), "error": code, "code": code, "progress": 0}
}

func cancelFailed(_ *task.Job, code string) any {
	return frame{"type": "cancel_response", "success": false, "code": code, "message": explain(code)}
}
