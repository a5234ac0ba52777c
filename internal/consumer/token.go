package consumer

import (
	"context"
	"errors"

	"orgcast/internal/event"
	"orgcast/internal/session"
)

// tokenFrame answers a token that was accepted.
type tokenFrame struct {
	Type      string `json:"type"`       // "token_accepted"
	ExpiresAt int64  `json:"expires_at"` // Unix seconds
}

// renewalCost is how many tokens of the rate limit a newer session token takes, in addition to the one for
// its frame: to verify it costs more than any other frame.
const renewalCost = 4

// renewToken prolongs the session of a connection with the token of a message. What is wrong with the token
// is not told: the client has what it got from its identity provider. The error is
// [session.ErrNotRenewable] if the session did not begin with a token.
func renewToken(ctx context.Context, c Conn, t Tokened, m event.Message) error {
	var in struct {
		Token string `json:"token"`
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	expires, err := t.RenewToken(ctx, in.Token)
	if errors.Is(err, session.ErrNotRenewable) {
		return err
	}
	if limited, ok := c.(Limiter); ok {
		if err := limited.Charge(renewalCost); err != nil {
			return err
		}
	}
	switch {
	case err == nil:
		return c.Send(tokenFrame{Type: "token_accepted", ExpiresAt: expires.Unix()})
	case errors.Is(err, session.ErrUnavailable):
		return SendError(c, CodeUnavailable, "")
	default:
		return SendError(c, CodeTokenRefused, "")
	}
}
