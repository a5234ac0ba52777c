// Package session turns the cookie of a request into an [Identity]: who is this, and which
// organization is active? It reads what the web application stored and never trusts more of the
// cookie than a look-up key or a signed value. Session content is never logged.
package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"orgcast/internal/orgctx"
)

// Why a request has no identity, or an open connection's session no longer stands. Unless the
// comment says otherwise they mean "not logged in" to the client, and are told apart for logs and
// metrics only.
var (
	// ErrNone is returned if the request bears no session cookie, one that names no session, or
	// one of a session that nobody is logged in to.
	ErrNone = errors.New("session: no session")
	// ErrInvalid is returned for a cookie that fails its signature, or a session of no valid form.
	ErrInvalid = errors.New("session: not a valid session")
	// ErrExpired is returned for a session past its expiry.
	ErrExpired = errors.New("session: expired")
	// ErrStale is returned by Recheck for a session of which the store knows only the copy that the
	// browser sent, when that is past its expiry: the browser may hold a newer one. It is an ErrExpired.
	ErrStale = fmt.Errorf("%w: the browser may hold a newer copy", ErrExpired)
	// ErrEnded is returned for a session that was revoked although what the browser holds is good.
	ErrEnded = errors.New("session: ended")
	// ErrDisabled is returned for a user who was shut out. Unlike the others it means "not allowed".
	ErrDisabled = errors.New("session: user is disabled")
	// ErrSwitched is returned by Recheck for a session whose active organization is another now.
	ErrSwitched = errors.New("session: another organization is active")
	// ErrUnavailable is returned, wrapped, if the store did not answer.
	ErrUnavailable = errors.New("session: store unavailable")
)

// Identity is what a session says. It is immutable.
type Identity struct {
	// UserID satisfies [orgctx.ValidUserID].
	UserID string
	// Organization is the active organization. It is zero if the session names none.
	Organization orgctx.ID
	// SessionID tells this session from others of the same user, for revocation. It cannot be
	// used to log in.
	SessionID string
	// Expires is the end of the session. It is never zero.
	Expires time.Time
	// Role is the user's role in Organization, as the directory says, or the session if the directory keeps no
	// roles; empty for none.
	Role string
}

// Resolver finds the identity of a request. It is safe for concurrent use. Errors are the Err…
// values of this package, wrapped or not.
type Resolver interface {
	Resolve(ctx context.Context, r *http.Request) (Identity, error)
}

// Store is a Resolver that can be asked again about the sessions of open connections.
type Store interface {
	Resolver
	// Ticket returns what Recheck finds the request's session by, for a request that Resolve has
	// accepted. It may open the session, so it is kept as a secret.
	Ticket(r *http.Request) string
	// Recheck says of each session, in order, whether it still stands. Where nobody can say, the
	// error is [ErrUnavailable], wrapped.
	Recheck(ctx context.Context, held []Held) []Standing
}

// Held is the session of an open connection.
type Held struct {
	Identity Identity
	Ticket   string
}

// Standing is what a store says of a session that it was asked about again.
type Standing struct {
	// Expires is the end of the session as it is now, if Err is nil: the application may have
	// renewed it.
	Expires time.Time
	// Role is the role that the session names now, if Err is nil.
	Role string
	Err  error
}

// judge holds what the store has now, or why it has nothing, against what the connection was admitted with.
func (h Held) judge(now Identity, err error) Standing {
	switch {
	case errors.Is(err, orgctx.ErrNoOrganization) && !h.Identity.Organization.IsZero():
		return Standing{Err: ErrSwitched}
	case err != nil:
		return Standing{Err: err}
	case now.UserID != h.Identity.UserID: // someone else logged in
		return Standing{Err: ErrEnded}
	case now.Organization != h.Identity.Organization:
		return Standing{Err: ErrSwitched}
	}
	return Standing{Expires: now.Expires, Role: now.Role}
}
