package pubsub

import (
	"context"
	"fmt"

	"orgcast/internal/event"

	"github.com/redis/go-redis/v9"
)

// Publish sends a payload to the group. A payload that [event.Decode] would refuse is refused here
// with the same error and never leaves. Any other error means that the event may or may not have
// been published.
func (r *Redis) Publish(ctx context.Context, g event.Group, payload []byte) error {
	if err := event.Check(g, payload, r.opt.MaxEventSize); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.PublishTimeout)
	defer cancel()
	if err := r.client.Publish(ctx, r.keys.GroupChannel(g), payload).Err(); err != nil {
		return fmt.Errorf("publish to %s: %w", g, err)
	}
	r.metrics.published.Inc()
	return nil
}

// PublishAll sends payloads in their order in one round trip. The errors are those of
// [Redis.Publish], one for each payload and nil for each that was published; a payload that is
// refused does not keep back the others.
func (r *Redis) PublishAll(ctx context.Context, out []Outgoing) []error {
	errs := make([]error, len(out))
	sent := make([]*redis.IntCmd, len(out))
	pipe := r.client.Pipeline()
	for i, o := range out {
		if errs[i] = event.Check(o.Group, o.Payload, r.opt.MaxEventSize); errs[i] == nil {
			sent[i] = pipe.Publish(ctx, r.keys.GroupChannel(o.Group), o.Payload)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.PublishTimeout)
	defer cancel()
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, cmd := range sent {
		switch {
		case cmd == nil:
		case cmd.Err() != nil:
			errs[i] = fmt.Errorf("publish to %s: %w", out[i].Group, cmd.Err())
		default:
			r.metrics.published.Inc()
		}
	}
	return errs
}
