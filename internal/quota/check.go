package quota

import (
	"context"
	"fmt"

	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
)

// Check returns nil if Take could admit a connection, and [ErrUnavailable], wrapped, if Redis does
// not answer for any of the organizations. It reserves nothing.
func (q *Redis) Check(ctx context.Context, orgs []orgctx.ID) error {
	asks := make([]*question, len(orgs))
	for i := range asks {
		asks[i] = new(question)
	}
	var last error
	for _, a := range q.run(ctx, orgs, asks) {
		err := read(a).err
		if err == nil || redisreply.WritesRefused(err) {
			return nil
		}
		last = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return last
}
