package quota

import "context"

// Renew is what Run does now and then.
func (q *Redis) Renew(ctx context.Context) { q.renew(ctx) }

// Leave is what Run does at its end.
func (q *Redis) Leave(ctx context.Context) { q.leave(ctx) }
