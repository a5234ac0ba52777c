package bench

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"orgcast/internal/session"
)

// Minter creates the cookie of a new session, as the web application does when someone signs in.
// session.CookieStore and session.RedisStore are Minters.
type Minter interface {
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
}

// signIn returns the Cookie header of a connection. Each connection has its own user, so that
// limits per user do not matter.
func signIn(ctx context.Context, sessions Minter, c *client) (string, error) {
	cookie, err := sessions.Mint(ctx, session.Grant{
		UserID: "bench-user-" + strconv.Itoa(c.index), Organization: c.org.id,
	})
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	return cookie.Name + "=" + cookie.Value, nil
}
