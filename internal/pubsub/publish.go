package pubsub

import (
	"context"
	"fmt"

	"orgcast/internal/event"
	"orgcast/internal/redisreply"
	"orgcast/internal/redistime"

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

// PublishAll sends and records payloads in their order in one round trip. Each has a receipt, with
// the error that [Redis.Publish] or [Redis.Record] would return; a payload that is refused does
// not keep back the others.
func (r *Redis) PublishAll(ctx context.Context, out []event.Publication) []event.Receipt {
	ctx, cancel := context.WithTimeout(ctx, r.opt.PublishTimeout)
	defer cancel()
	results := make([]event.Receipt, len(out))
	sent := make([]redis.Cmder, len(out))
	r.sendAll(ctx, out, sent, results)
	if r.refusedUndone(ctx, out, sent) && ctx.Err() == nil {
		r.sendAll(ctx, out, sent, results)
	}
	for i, o := range out {
		cmd := sent[i]
		if cmd == nil {
			continue
		}
		err := cmd.Err()
		if err == nil {
			switch answer := cmd.(type) {
			case *redis.Cmd:
				err = recorded(&results[i], answer)
			case *redis.IntCmd:
				results[i].Nodes = answer.Val()
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

// sendAll sends, in their order and in one round trip, what has not been sent or was refused undone, and
// puts the commands into sent. What cannot be sent has its error in results.
func (r *Redis) sendAll(ctx context.Context, out []event.Publication, sent []redis.Cmder, results []event.Receipt) {
	type server struct {
		latest string // moment, by its clock
		err    error
	}
	servers := make(map[uint16]server) // of these slots; they know the script then
	pipe := r.client.Pipeline()
	for i, o := range out {
		if sent[i] != nil && !undone(sent[i]) {
			continue
		}
		if err := o.Check(r.opt.MaxEventSize); err != nil {
			results[i].Err = err
			continue
		}
		channel := r.keys.GroupChannel(o.Group)
		if o.Record == nil {
			sent[i] = r.send(ctx, pipe, channel, o.Payload)
			continue
		}
		at, known := servers[r.slot(channel)]
		if !known {
			at.latest, at.err = r.clocks.Latest(ctx, channel)
			servers[r.slot(channel)] = at
		}
		if at.err != nil {
			sent[i], results[i].Err = nil, fmt.Errorf("publish to %s: %w", o.Group, at.err)
			continue
		}
		sent[i] = r.record(ctx, pipe, o, at.latest, !known)
	}
	if pipe.Len() > 0 {
		_ = redisreply.Exec(ctx, pipe) // each command has its own error
	}
}

// undone reports whether a server has refused a command and done nothing: it had not seen the script, as one
// that has been given a slot between two commands, or got to it after its latest moment.
func undone(cmd redis.Cmder) bool {
	return redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") || redistime.IsLate(cmd.Err())
}

// refusedUndone reports whether a command has been, and has the clocks read again that it was too late for.
func (r *Redis) refusedUndone(ctx context.Context, out []event.Publication, sent []redis.Cmder) (some bool) {
	for i, cmd := range sent {
		if cmd == nil || !undone(cmd) {
			continue
		}
		some = true
		if redistime.IsLate(cmd.Err()) {
			r.clocks.Forget(ctx, r.keys.GroupChannel(out[i].Group))
		}
	}
	return some
}
