package api

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
	"orgcast/internal/usage"
)

const (
	parameterFrom = "from"
	parameterTo   = "to"
	// usualPeriod is what GET /v1/usage shows without from.
	usualPeriod = 24 * time.Hour
)

var errNothingKept = errors.New("api: usage is not kept")

// usageView returns GET /v1/usage, which reads what all nodes have written.
func usageView(kept *usage.Redis) view {
	return view{
		path: "/v1/usage", parameters: []string{parameterOrganization, parameterFrom, parameterTo, parameterLimit, parameterCursor},
		do: func(ctx context.Context, parameters map[string]string) (any, error) {
			q, err := usageQueryOf(parameters, time.Now())
			if err != nil {
				return nil, err
			}
			if kept == nil {
				return nil, errNothingKept
			}
			rows, more, err := kept.Read(ctx, q)
			if err != nil {
				return nil, err
			}
			body := map[string]any{"usage": notNull(rows)}
			if more {
				body["next"] = base64.RawURLEncoding.EncodeToString([]byte(rows[len(rows)-1].Key()))
			}
			return body, nil
		},
	}
}

// usageQueryOf returns the query that parameters ask for.
func usageQueryOf(parameters map[string]string, now time.Time) (q usage.Query, err error) {
	q = usage.Query{To: now, Limit: usage.DefaultLimit}
	if text, given := parameters[parameterTo]; given {
		if q.To, err = time.Parse(time.RFC3339, text); err != nil {
			return q, usage.ErrPeriod
		}
	}
	q.From = q.To.Add(-usualPeriod)
	if text, given := parameters[parameterFrom]; given {
		if q.From, err = time.Parse(time.RFC3339, text); err != nil {
			return q, usage.ErrPeriod
		}
	}
	if text, given := parameters[parameterOrganization]; given {
		if q.Organization, err = orgctx.ParseID(text); err != nil {
			return q, inventory.ErrOrganization
		}
	}
	if err := readPage(parameters, &q.Limit, &q.After); err != nil {
		return q, err
	}
	switch err := q.Check(); {
	case errors.Is(err, usage.ErrLimit):
		return q, inventory.ErrLimit
	case errors.Is(err, usage.ErrCursor):
		return q, inventory.ErrCursor
	default:
		return q, err
	}
}
