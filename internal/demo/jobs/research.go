package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orgcast/internal/task"
)

const (
	// maxQuery is the longest question that is searched for, in bytes.
	maxQuery = 500
	// findings is how many passages a report holds.
	findings = 6
	// stateLife is how long it is remembered how a research went: longer than any takes.
	stateLife = time.Hour
	// cancelWait bounds the wait of who cancels for the research to stop. It looks that often.
	cancelWait, cancelLook = 15 * time.Second, 20 * time.Millisecond
)

// errCancelled ends a research that somebody cancelled.
var errCancelled = errors.New("jobs: cancelled")

// stateOf and cancelOf return where in the organisation's store it stands how a research goes, and
// that it is to stop.
func stateOf(id string) string  { return "research." + id + ".state" }
func cancelOf(id string) string { return "research." + id + ".cancel" }

// research looks for a question in the project's documents, one after the other, and writes a report
// of what it found.
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
	note := func(status string) error { return job.Store.Set(ctx, stateOf(p.ResearchID), []byte(status), stateLife) }
	if err := note(statusRunning); err != nil {
		return nil, err
	}
	report, err := j.search(ctx, job, p.ResearchID, p.Query)
	switch {
	case errors.Is(err, errCancelled):
		return frame{"type": "status_update", "status": statusCancelled, "message": "The research was cancelled.", "progress": 0}, note(statusCancelled)
	case err != nil:
		return nil, err // the state says running: it is, or it is tried again
	}
	if err := job.Progress(ctx, frame{"type": "report_update", "report": report}); err != nil {
		return nil, err
	}
	return frame{"type": "status_update", "status": statusCompleted, "message": "The report is ready.", "progress": 100}, note(statusCompleted)
}

// search goes through the documents and returns the report.
func (j *jobs) search(ctx context.Context, job *task.Job, id, query string) (report frame, err error) {
	words := slices.Compact(slices.Sorted(slices.Values(wordsOf(query))))
	total := len(j.docs.documents) + 2
	number := 0
	step := func(title, text string) error {
		if err := j.goOn(ctx, job.Store, id); err != nil {
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
		"type": "status_update", "status": statusRunning, "message": "The research has begun.", "progress": 0,
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

// goOn pauses, and says whether the research may go on: errCancelled once somebody cancelled it.
// Between looks at most a look's time passes, however long the pause.
func (j *jobs) goOn(ctx context.Context, store *task.Store, id string) error {
	const look = 200 * time.Millisecond
	for until := time.Now().Add(j.Pace); ; {
		_, err := store.Get(ctx, cancelOf(id))
		switch {
		case err == nil:
			return errCancelled
		case !errors.Is(err, task.ErrNotStored):
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

// cancelResearch makes a research that runs stop, and waits until it has.
func (j *jobs) cancelResearch(ctx context.Context, job *task.Job) (any, error) {
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
	asked := false
	for until := time.Now().Add(cancelWait); time.Now().Before(until); {
		state, err := job.Store.Get(ctx, stateOf(p.ResearchID))
		switch {
		case errors.Is(err, task.ErrNotStored):
			return answer(false, "This research does not run.")
		case err != nil:
			return nil, err
		case string(state) == statusCancelled:
			return answer(true, "The research was cancelled.")
		case string(state) != statusRunning:
			return answer(false, "The research had ended.")
		}
		if !asked {
			if err := job.Store.Set(ctx, cancelOf(p.ResearchID), []byte("1"), stateLife); err != nil {
				return nil, err
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(cancelLook):
		}
	}
	return answer(true, "The research will stop when it goes on.") // its worker is gone, or is slow
}

func researchFailed(_ *task.Job, code string) any {
	return frame{"type": "status_update", "status": statusFailed, "message": explain(code), "error": code, "code": code, "progress": 0}
}

func cancelFailed(_ *task.Job, code string) any {
	return frame{"type": "cancel_response", "success": false, "code": code, "message": explain(code)}
}
