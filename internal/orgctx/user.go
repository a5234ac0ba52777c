package orgctx

import "context"

// User is the id of the current user, as sessions and the directory have it. The empty User means
// "none", as for work that no user asked for. It never grants anything by itself: ask the
// directory.
type User string

// userKey is unexported so that no other package can put a user into a context.
type userKey struct{}

// WithUser returns a context that carries the user in addition to its organization. Passing the
// empty User is a programming error and panics; see [WithoutUser].
func WithUser(ctx context.Context, user User) context.Context {
	if user == "" {
		panic("orgctx: WithUser called without a user")
	}
	return context.WithValue(ctx, userKey{}, user)
}

// memberContext carries both in one piece, of which each open connection has one.
type memberContext struct {
	context.Context //nolint:containedctx // it is one

	id   ID
	user User
}

// Value implements context.Context.
func (c *memberContext) Value(key any) any {
	switch key.(type) {
	case contextKey:
		return c.id
	case userKey:
		return c.user
	}
	return c.Context.Value(key)
}

// WithMember returns a context that carries the organization and its user, as [With] and [WithUser]
// would. The zero ID stands for no organization: some connections have none.
func WithMember(ctx context.Context, id ID, user User) context.Context {
	return &memberContext{ctx, id, user}
}

// WithoutUser returns a context that carries the organization of ctx and no user.
func WithoutUser(ctx context.Context) context.Context {
	if _, ok := UserFrom(ctx); !ok {
		return ctx
	}
	return context.WithValue(ctx, userKey{}, User(""))
}

// UserFrom returns the user of the context. ok is false if there is none.
func UserFrom(ctx context.Context) (user User, ok bool) {
	user, _ = ctx.Value(userKey{}).(User)
	return user, user != ""
}
