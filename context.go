package orgcast

import (
	"context"
	"net/http"

	"orgcast/internal/orgctx"
)

type (
	// ID identifies an organization. It is made by [ParseID] alone.
	ID = orgctx.ID
	// User is the id of the current user.
	User = orgctx.User
	// Directory says which organizations are active.
	Directory = orgctx.Directory
)

var (
	// ErrNoOrganization is returned where an organization is needed and the context carries none.
	ErrNoOrganization = orgctx.ErrNoOrganization
	// ErrInvalidID is returned for text that cannot identify an organization.
	ErrInvalidID = orgctx.ErrInvalidID
)

// ParseID returns the ID with the given text, or [ErrInvalidID].
func ParseID(text string) (ID, error) { return orgctx.ParseID(text) }

// With returns a context that carries the organization, and no user. It does not ask whether the organization exists:
// [Do] does. The zero ID panics.
func With(ctx context.Context, id ID) context.Context { return orgctx.With(ctx, id) }

// From returns the organization of the context. ok is false if there is none.
func From(ctx context.Context) (id ID, ok bool) { return orgctx.From(ctx) }

// WithUser returns a context that carries the user in addition to its organization. The empty User panics.
func WithUser(ctx context.Context, user User) context.Context { return orgctx.WithUser(ctx, user) }

// UserFrom returns the user of the context. ok is false if there is none, as in work that no user asked for.
func UserFrom(ctx context.Context) (user User, ok bool) { return orgctx.UserFrom(ctx) }

// Do runs fn for an organization that is active: fn's context carries it, and ctx stays as it was. Otherwise, and if
// the directory does not answer, fn does not run and Do returns the directory's error, wrapped.
func Do(ctx context.Context, dir Directory, id ID, fn func(context.Context) error) error {
	return orgctx.Do(ctx, dir, id, fn)
}

// Middleware puts the organization that resolve finds into the context of each request, for HTTP servers of your own.
// A request for which resolve finds none goes on without one, and [Guard] refuses it. Handlers of an [Extension] need
// neither: [Main] has done it for them.
func Middleware(resolve func(*http.Request) (ID, bool)) func(http.Handler) http.Handler {
	return orgctx.Middleware(resolve)
}

// Guard answers 403 to requests whose context carries no organization, and passes on the others.
func Guard(next http.Handler) http.Handler { return orgctx.Guard(next) }
