package task

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Ask asks a person of the task's organization and returns the answer. The execution of the question is the task's
// ID. prompt is kept with the question, for pages that open later; tell is an event that tells the task's group about
// it. A task that is tried again finds the answer that was given meanwhile, and tells the group again if there is none.
// The error is that of [Asks.Wait], of [Job.Progress], or of what cannot be encoded.
func (j *Job) Ask(ctx context.Context, taskIndex int, prompt, tell any) (answer string, err error) {
	if org, ok := orgctx.From(ctx); ok && org != j.Organization() {
		return "", ErrForeign
	}
	asks, err := NewAsks(j.worker.client, j.worker.keys)
	if err != nil {
		return "", err
	}
	text, err := event.Marshal(prompt)
	if err != nil {
		return "", fmt.Errorf("encode prompt: %w", err)
	}
	if _, err := asks.Open(ctx, j.ID, taskIndex, text, 0); err != nil {
		return "", err
	}
	// An earlier attempt may have ended between the question and the event, so whether this one opened it says nothing.
	switch _, err := asks.Prompt(ctx, j.ID, taskIndex); {
	case errors.Is(err, ErrAskAnswered):
	case err != nil:
		return "", err
	default:
		if err := j.Progress(ctx, tell); err != nil {
			return "", err
		}
	}
	return asks.Wait(ctx, j.ID, taskIndex)
}
