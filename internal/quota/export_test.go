package quota

import (
	"context"
	"time"

	"orgcast/internal/gather"
)

// Renew does what Run does regularly.
func (q *Redis) Renew(ctx context.Context) { q.renew(ctx) }

// Leave does what Run does at its end.
func (q *Redis) Leave(ctx context.Context) { q.leave(ctx) }

// Together has reservations wait for each other for so long, and returns how many wait.
func (q *Redis) Together(patience time.Duration) (waiting func() int) {
	q.together = gather.New(gather.Options[reservation, struct{}]{Call: q.reserveAll, Most: maxTogether, Patience: patience})
	return q.together.Waiting
}
