// Package session turns the cookie of a request into an [Identity]: who is this, and which
// organisation is active? It reads what the web application stored and never trusts more of the
// cookie than a look-up key or a signed value. Session content is never logged.
package session

import (
	"context"
	"errors"
	"net/http"
	"time"

	"orgcast/internal/orgctx"
)

// Why a request has no identity. All mean "not logged in" to the client; they are told apart for
// logs and metrics only.
var (
	// ErrNone is returned if the request bears no session cookie, one that names no session, or
	// one of a session that nobody is logged in to.
	ErrNone = errors.New("session: none")
	// ErrInvalid is returned for a cookie that fails its signature, or a session of no valid form.
	ErrInvalid = errors.New("session: invalid")
	// ErrExpired is returned for a session past its expiry.
	ErrExpired = errors.New("session: expired")
	// ErrUnavailable is returned, wrapped, if the store did not answer.
	ErrUnavailable = errors.New("session: store unavailable")
)

// Identity is what a session says. It is immutable.
type Identity struct {
	// UserID has the form of [orgctx.ValidID] and is never empty.
	UserID string
	// Organization is the active organisation. It is zero if the session names none.
	Organization orgctx.ID
	// SessionID tells this session from others of the same user, for revocation. It cannot be
	// used to log in.
	SessionID string
	// Expires is the end of the session. It is never zero.
	Expires time.Time
	// Role is the user's role in Organization, as the directory says; empty in mode "session".
	Role string
}

// Resolver finds the identity of a request. It is safe for concurrent use. Errors are the Err…
// values of this package, wrapped or not.
type Resolver interface {
	Resolve(ctx context.Context, r *http.Request) (Identity, error)
}
