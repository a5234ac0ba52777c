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

// howToRevoke is told to callers whose body is not a message.
const howToRevoke = "Send one JSON object with a type and the fields of that type, each once, as in docs/protocol.md under Revoking."

// revoking returns POST /v1/revoke: the body is a message, the answer {"status":…,"code":…}.
func revoking(r Revoker) call {
	return call{
		path:    "/v1/revoke",
		access:  byEither,
		maxBody: lease.MaxMessage,
		problems: []problem{
			{errBadRequest, http.StatusBadRequest, codeBadRequest, howToRevoke},
			{errTooLarge, http.StatusBadRequest, codeBadRequest, howToRevoke}, // no message is that long
			{lease.ErrNotAnnounced, http.StatusServiceUnavailable, "not_announced", "Repeat the request to announce the change at once: without that, nodes find out within --lease-period."},
			{lease.ErrNotRecorded, http.StatusServiceUnavailable, "not_recorded", "Repeat the request until it succeeds: connections close now, but their users can reconnect."},
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
