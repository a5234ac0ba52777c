package api

import (
	"context"
	"fmt"
	"net/http"

	"orgcast/internal/lease"
)

// Revoker ends the right to be connected. [lease.Revoker] is one.
type Revoker interface {
	Revoke(ctx context.Context, m lease.Message) (recorded bool, err error)
}

// revoking returns POST /v1/revoke: the body is a message, the answer {"status":…,"code":…}.
func revoking(r Revoker) call {
	return call{
		path:    "/v1/revoke",
		maxBody: lease.MaxMessage,
		problems: []problem{
			badRequest,
			{errTooLarge, http.StatusBadRequest, badRequest.code}, // no message is that long
			{lease.ErrNotAnnounced, http.StatusServiceUnavailable, "not_announced"},
			{lease.ErrNotRecorded, http.StatusServiceUnavailable, "not_recorded"},
			unavailable,
		},
		do: func(ctx context.Context, body []byte) (results []result, err error) {
			m, err := lease.Decode(body)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errBadRequest, err)
			}
			recorded, err := r.Revoke(ctx, m)
			switch {
			case err != nil:
				return nil, err
			case !recorded:
				return []result{{Status: "announced"}}, nil
			default:
				return []result{{Status: "revoked"}}, nil
			}
		},
	}
}
