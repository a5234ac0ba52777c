package quota

import (
	"context"

	"orgcast/internal/orgctx"
)

// reservation is a question and whom it is about.
type reservation struct {
	org orgctx.ID
	ask *question
}

// reserveOne reserves for a handshake. The answer is in its question.
func (q *Redis) reserveOne(ctx context.Context, r reservation) {
	if q.together == nil {
		q.reserveAll(ctx, []reservation{r})
		return
	}
	_, _ = q.together.Ask(ctx, r)
}

// reserveAll reserves for several handshakes.
func (q *Redis) reserveAll(ctx context.Context, list []reservation) []struct{} {
	orgs, asks := make([]orgctx.ID, len(list)), make([]*question, len(list))
	for i, r := range list {
		orgs[i], asks[i] = r.org, r.ask
	}
	_ = q.reserve(ctx, orgs, asks) // each question has its own error
	return make([]struct{}, len(list))
}
