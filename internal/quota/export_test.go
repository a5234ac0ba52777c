package quota

import "context"

// Renew is what Run does now and then.
func (q *Redis) Renew(ctx context.Context) { q.renew(ctx) }
