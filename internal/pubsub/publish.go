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

// PublishAll sends and records payloads in their order in one round trip. Each has a result, with
// the error that [Redis.Publish] or [Redis.Record] would return; a payload that is refused does
// not keep back the others.
func (r *Redis) PublishAll(ctx context.Context, out []Outgoing) []Result {
	results := make([]Result, len(out))
	sent := make([]redis.Cmder, len(out))
	pipe := r.client.Pipeline()
	known := false // the script, to Redis
	for i, o := range out {
		options, err := o.check(r.opt.MaxEventSize)
		switch {
		case err != nil:
			results[i].Err = err
		case o.Record == nil:
			sent[i] = pipe.Publish(ctx, r.keys.GroupChannel(o.Group), o.Payload)
		default:
			sent[i] = r.record(ctx, pipe, o, options, !known)
			known = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.PublishTimeout)
	defer cancel()
	execute(ctx, pipe)
	for i, o := range out {
		cmd := sent[i]
		if cmd == nil {
			continue
		}
		err := cmd.Err()
		if script, ok := cmd.(*redis.Cmd); ok && err == nil {
			var text string
			if text, err = script.Text(); err == nil {
				results[i].Position, err = event.ParsePosition(text)
			}
		}
		if err != nil {
			results[i].Err = fmt.Errorf("publish to %s: %w", o.Group, err)
			continue
		}
		r.metrics.published.Inc()
	}
	return results
}
