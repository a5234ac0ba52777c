package task

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Ask asks a person of the task's organization and returns the answer. The question's execution is
// the task's ID. prompt is stored with the question, for pages that open later. tell is an event
// that announces the question in the task's group. A task that is tried again finds an answer given
// meanwhile, and announces the question again if there is none. The error comes from [Asks.Wait],
// [Job.Progress], or encoding.
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
	// An earlier attempt may have ended between the question and the event, so it does not matter
	// which attempt opened the question.
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
