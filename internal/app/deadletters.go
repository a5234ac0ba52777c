package app

import (
	"context"
	"encoding/json"
	"slices"

	"orgcast/internal/api"
	"orgcast/internal/event"
	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
	"orgcast/internal/webhook"
)

// deadLetters are the webhooks of all nodes, for the API.
type deadLetters struct{ of *webhook.Letters }

var _ api.Webhooks = deadLetters{}

// Count implements [api.Webhooks].
func (d deadLetters) Count(ctx context.Context) (inventory.Webhooks, error) {
	return webhookCounts(d.of.Count(ctx))
}

// CountOf implements [api.Webhooks].
func (d deadLetters) CountOf(ctx context.Context, org orgctx.ID) (inventory.Webhooks, error) {
	return webhookCounts(d.of.CountOf(ctx, org))
}

func webhookCounts(c webhook.Counts, err error) (inventory.Webhooks, error) {
	return inventory.Webhooks{Waiting: c.Waiting, WaitingBytes: c.WaitingBytes, Dead: c.Dead}, err
}

// Organizations implements [api.Webhooks].
func (d deadLetters) Organizations(ctx context.Context, after string, limit int) (orgs []orgctx.ID, more bool, err error) {
	orgs, err = d.of.Organizations(ctx)
	from := slices.IndexFunc(orgs, func(org orgctx.ID) bool { return org.String() > after })
	if from < 0 {
		return nil, false, err
	}
	orgs = orgs[from:]
	return orgs[:min(limit, len(orgs))], len(orgs) > limit, err
}

// Dead implements [api.Webhooks].
func (d deadLetters) Dead(ctx context.Context, org orgctx.ID, after event.Position, limit int) (letters []inventory.DeadLetter, next event.Position, err error) {
	place := ""
	if !after.IsZero() {
		place = after.String()
	}
	list, err := d.of.List(ctx, org, place, limit+1)
	for _, l := range list[:min(limit, len(list))] {
		letters = append(letters, inventory.DeadLetter{ID: l.ID, Line: l.Line, Webhook: json.RawMessage(l.Body), Attempts: l.Tries, Reason: l.Reason})
	}
	if len(list) > limit {
		next, err = event.ParsePosition(list[limit-1].Position)
	}
	return letters, next, err
}

// Retry implements [api.Webhooks].
func (d deadLetters) Retry(ctx context.Context, org orgctx.ID, id string) (bool, error) {
	return d.of.RetryID(ctx, org, id)
}

// RetryAll implements [api.Webhooks].
func (d deadLetters) RetryAll(ctx context.Context, org orgctx.ID) (int, error) {
	return d.of.RetryAll(ctx, org, nil)
}
