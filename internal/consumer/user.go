package consumer

import (
	"context"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// asUser makes each hook of a consumer run with the connection's user as the current one (see
// [orgctx.UserFrom]). What a hook writes is charged to that user.
func asUser(inner OrganizationAwareConsumer) OrganizationAwareConsumer {
	w := userConsumer{inner}
	if h, ok := inner.(EventHandler); ok {
		return struct {
			userConsumer
			userEvents
		}{w, userEvents{h}}
	}
	return w
}

type userConsumer struct{ inner OrganizationAwareConsumer }

func (u userConsumer) Connect(ctx context.Context, c Conn) error {
	return u.inner.Connect(withUser(ctx, c), c)
}

func (u userConsumer) Receive(ctx context.Context, c Conn, f event.Frame) error {
	return u.inner.Receive(withUser(ctx, c), c, f)
}

func (u userConsumer) Disconnect(ctx context.Context, c Conn, cause error) {
	u.inner.Disconnect(withUser(ctx, c), c, cause)
}

type userEvents struct{ inner EventHandler }

func (u userEvents) HandleEvent(ctx context.Context, c Conn, e *event.Event) bool {
	return u.inner.HandleEvent(withUser(ctx, c), c, e)
}

// withUser returns ctx with the connection's user, who has been identified before any hook runs.
func withUser(ctx context.Context, c Conn) context.Context {
	user := orgctx.User(c.Identity().UserID)
	if user == "" {
		return ctx
	}
	return orgctx.WithUser(ctx, user)
}
