package pubsub

import (
	"context"
	"fmt"

	"orgcast/internal/event"
	"orgcast/internal/redisreply"

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
	if err := r.send(ctx, r.client, r.keys.GroupChannel(g), payload).Err(); err != nil {
		return fmt.Errorf("publish to %s: %w", g, err)
	}
	r.metrics.published.Inc()
	return nil
}

// send publishes, or queues that in a pipeline. In a Cluster the event goes to the members that serve the
// channel's slot, all others being spared it.
func (r *Redis) send(ctx context.Context, to redis.Cmdable, channel string, payload any) *redis.IntCmd {
	if r.shards != nil {
		return to.SPublish(ctx, channel, payload)
	}
	return to.Publish(ctx, channel, payload)
}

// PublishAll sends and records payloads in their order in one round trip. Each has a result, with
// the error that [Redis.Publish] or [Redis.Record] would return; a payload that is refused does
// not keep back the others.
func (r *Redis) PublishAll(ctx context.Context, out []Outgoing) []Result {
	results := make([]Result, len(out))
	sent := make([]redis.Cmder, len(out))
	pipe := r.client.Pipeline()
	known := make(map[uint16]bool) // the script, to the servers of these slots
	for i, o := range out {
		options, err := o.check(r.opt.MaxEventSize)
		switch {
		case err != nil:
			results[i].Err = err
		case o.Record == nil:
			sent[i] = r.send(ctx, pipe, r.keys.GroupChannel(o.Group), o.Payload)
		default:
			slot := r.slot(r.keys.GroupChannel(o.Group))
			sent[i] = r.record(ctx, pipe, o, options, !known[slot])
			known[slot] = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.PublishTimeout)
	defer cancel()
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	r.recordAgain(ctx, out, sent)
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

// recordAgain repeats, in their order, what servers refused because they had not seen the script, as one does
// that has been given a slot between two commands. Nothing has happened there.
func (r *Redis) recordAgain(ctx context.Context, out []Outgoing, sent []redis.Cmder) {
	pipe := r.client.Pipeline()
	for i, cmd := range sent {
		if cmd == nil || !redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			continue
		}
		if options, err := out[i].check(r.opt.MaxEventSize); err == nil {
			sent[i] = r.record(ctx, pipe, out[i], options, true)
		}
	}
	if pipe.Len() > 0 {
		_ = redisreply.Exec(ctx, pipe) // each command has its own error
	}
}
