package quota

import "context"

// Renew does what Run does regularly.
func (q *Redis) Renew(ctx context.Context) { q.renew(ctx) }

// Leave does what Run does at its end.
func (q *Redis) Leave(ctx context.Context) { q.leave(ctx) }
