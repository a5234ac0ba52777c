package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"orgcast/internal/event"
	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
)

// Webhooks knows what waits to be told to back ends, and what could not be. Its methods wait for
// Redis; each of its commands takes a bounded time.
type Webhooks interface {
	// Count counts what waits and what is dead, of all organizations.
	Count(ctx context.Context) (inventory.Webhooks, error)
	// Organizations returns the organizations that have dead letters, in alphabetical order: at most
	// limit of those after a name, which may be empty. more says that there are others.
	Organizations(ctx context.Context, after string, limit int) (orgs []orgctx.ID, more bool, err error)
	// CountOf counts what waits and what is dead of one organization.
	CountOf(ctx context.Context, org orgctx.ID) (inventory.Webhooks, error)
	// Dead returns dead letters of an organization, oldest first: at most limit of those after a
	// position, which may be zero. next is the position of the last one, zero if no others follow.
	Dead(ctx context.Context, org orgctx.ID, after event.Position, limit int) (letters []inventory.DeadLetter, next event.Position, err error)
	// Retry puts a dead letter back to be delivered, and reports whether the organization has it.
	Retry(ctx context.Context, org orgctx.ID, id string) (bool, error)
	// RetryAll puts all back that the organization has now, and returns how many.
	RetryAll(ctx context.Context, org orgctx.ID) (int, error)
}

const (
	// maxRetry bounds the body of POST /v1/webhooks/retry.
	maxRetry = 1 << 10
	// howToRetry is told to callers whose body is of no use.
	howToRetry = "Send one JSON object with organization_id, and either id with the id of a dead letter, or all with true."
)

var errNoDeadLetter = errors.New("api: no such dead letter")

// showingWebhooks returns GET /v1/webhooks: the numbers of all organizations, with the names of those
// that have dead letters; or the numbers of one organization, with its dead letters. Back ends use it
// with the key with which they publish.
func showingWebhooks(w Webhooks) view {
	return view{
		path: "/v1/webhooks", forPublishers: true, parameters: []string{parameterOrganization, parameterLimit, parameterCursor},
		do: func(ctx context.Context, parameters map[string]string) (any, error) {
			limit, after := inventory.DefaultLimit, ""
			if err := readPage(parameters, &limit, &after); err != nil {
				return nil, err
			}
			if limit < 1 || limit > inventory.MaxLimit {
				return nil, inventory.ErrLimit
			}
			name, one := parameters[parameterOrganization]
			if !one {
				return allWebhooks(ctx, w, after, limit)
			}
			org, err := orgctx.ParseID(name)
			if err != nil {
				return nil, inventory.ErrOrganization
			}
			return webhooksOf(ctx, w, org, after, limit)
		},
	}
}

// webhooksPage is an answer of GET /v1/webhooks.
type webhooksPage struct {
	inventory.Webhooks

	// Organizations are those with dead letters, in an answer about all.
	Organizations *[]orgctx.ID `json:"organizations,omitempty"`
	// DeadLetters are those of the organization, in an answer about one.
	DeadLetters *[]inventory.DeadLetter `json:"dead_letters,omitempty"`
	// Next is the cursor of the next page.
	Next string `json:"next,omitempty"`
}

// continueAfter sets the cursor to the page after a place.
func (p *webhooksPage) continueAfter(place string) {
	p.Next = base64.RawURLEncoding.EncodeToString([]byte(place))
}

func allWebhooks(ctx context.Context, w Webhooks, after string, limit int) (any, error) {
	if _, err := orgctx.ParseID(after); after != "" && err != nil {
		return nil, inventory.ErrCursor
	}
	count, err := w.Count(ctx)
	if err != nil {
		return nil, err
	}
	orgs, more, err := w.Organizations(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	orgs = notNull(orgs)
	page := webhooksPage{Webhooks: count, Organizations: &orgs}
	if more && len(orgs) > 0 {
		page.continueAfter(orgs[len(orgs)-1].String())
	}
	return page, nil
}

func webhooksOf(ctx context.Context, w Webhooks, org orgctx.ID, after string, limit int) (any, error) {
	var position event.Position
	if after != "" {
		var err error
		if position, err = event.ParsePosition(after); err != nil || position.IsZero() {
			return nil, inventory.ErrCursor
		}
	}
	count, err := w.CountOf(ctx, org)
	if err != nil {
		return nil, err
	}
	letters, next, err := w.Dead(ctx, org, position, limit)
	if err != nil {
		return nil, err
	}
	letters = notNull(letters)
	page := webhooksPage{Webhooks: count, DeadLetters: &letters}
	if !next.IsZero() {
		page.continueAfter(next.String())
	}
	return page, nil
}

// retryingWebhooks returns POST /v1/webhooks/retry: the body names an organization and one of its
// dead letters, or all; the answer is {"status":…,"retried":…}.
func retryingWebhooks(w Webhooks) call {
	return call{
		path:    "/v1/webhooks/retry",
		access:  byEither,
		maxBody: maxRetry,
		problems: []problem{
			{inventory.ErrOrganization, http.StatusBadRequest, "invalid_organization", "Send organization_id as 1 to 64 characters of A-Z a-z 0-9 _ -."},
			{errNoDeadLetter, http.StatusNotFound, "unknown_webhook", "Send the id of a dead letter that GET /v1/webhooks lists for this organization: it has no such one, or it was tried again already."},
			{errBadRequest, http.StatusBadRequest, codeBadRequest, howToRetry},
			{errTooLarge, http.StatusBadRequest, codeBadRequest, howToRetry}, // no such request is that long
			unavailable,
		},
		do: func(ctx context.Context, body []byte) ([]result, error) {
			n, err := retry(ctx, w, body)
			if err != nil {
				return nil, err
			}
			return []result{{Status: "retried", Retried: &n}}, nil
		},
	}
}

// retry does what a body asks for, and returns how many dead letters are tried again.
func retry(ctx context.Context, w Webhooks, body []byte) (int, error) {
	var name identifier
	var id string
	var all bool
	if err := readFields(body, map[string]any{parameterOrganization: &name, "id": &id, "all": &all}); err != nil {
		return 0, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	if (id != "") == all {
		return 0, errBadRequest
	}
	org, err := orgctx.ParseID(string(name))
	if err != nil {
		return 0, inventory.ErrOrganization
	}
	if all {
		return w.RetryAll(ctx, org)
	}
	found, err := w.Retry(ctx, org, id)
	if err == nil && !found {
		err = errNoDeadLetter
	}
	return 1, err
}
