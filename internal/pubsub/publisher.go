package pubsub

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/redisreply"
	"orgcast/internal/redistime"
	"orgcast/internal/tracing"
)

// Publisher publishes and records events. A process that only publishes needs nothing else. Its
// methods are safe for concurrent use.
type Publisher struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	opt     Options
	cluster bool
	clocks  *redistime.Clocks
	metrics *publishMetrics
}

// NewPublisher returns a Publisher with the same kinds of client as [NewRedis]. It uses the Options
// MaxEventSize, PublishTimeout, Log and Registerer.
func NewPublisher(client redis.UniversalClient, keys keyspace.Keyspace, opt Options) *Publisher {
	opt = opt.withDefaults()
	_, cluster := client.(*redis.ClusterClient)
	return &Publisher{
		client: client, keys: keys, opt: opt, cluster: cluster,
		clocks: redistime.New(client, opt.Log), metrics: newPublishMetrics(opt.Registerer),
	}
}

// slot returns the slot of a name in a Cluster, else 0.
func (p *Publisher) slot(name string) uint16 {
	if !p.cluster {
		return 0
	}
	return keyspace.Slot(name)
}

// Publish sends a payload to the group. It refuses a payload that [event.Decode] would refuse, with
// the same error, and does not send it. Any other error means that the event may or may not have
// been published.
func (p *Publisher) Publish(ctx context.Context, g event.Group, payload []byte) error {
	if err := event.Check(g, payload, p.opt.largest()); err != nil {
		p.metrics.count(err)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.opt.PublishTimeout)
	defer cancel()
	began := time.Now()
	ctx, span := p.startSpan(ctx, g, 1)
	defer span.End()
	err := p.send(ctx, p.client, p.keys.GroupChannel(g), event.AppendTrace(tracing.TraceOf(ctx), payload)).Err()
	p.metrics.seconds.Observe(time.Since(began).Seconds())
	p.metrics.count(err)
	if err != nil {
		span.Fail(failedSpan)
		return fmt.Errorf("publish to %s: %w", g, err)
	}
	return nil
}

// failedSpan is the reason of spans whose publications did not all succeed.
const failedSpan = "publish_failed"

// startSpan begins the span that is the parent of what nodes do with the events.
func (p *Publisher) startSpan(ctx context.Context, g event.Group, n int) (context.Context, tracing.Span) {
	if p.opt.Tracer == nil {
		return tracing.Without(ctx), tracing.Span{}
	}
	ctx, span := p.opt.Tracer.Start(ctx, "publish", tracing.Producer)
	span.Text("messaging.system", "orgcast")
	span.Text("organization_id", g.Organization().String())
	span.Text("group", g.Name())
	span.Number("messaging.batch.message_count", n)
	return ctx, span
}

// send publishes, or queues the command in a pipeline. In a Cluster, the event goes only to the
// servers that serve the channel's slot.
func (p *Publisher) send(ctx context.Context, to redis.Cmdable, channel string, payload any) *redis.IntCmd {
	if p.cluster {
		return to.SPublish(ctx, channel, payload)
	}
	return to.Publish(ctx, channel, payload)
}

// PublishAll sends and records payloads in their order in one round trip. Each has a receipt, with
// the error that [Publisher.Publish] or [Publisher.Record] would return. A refused payload does not
// stop the others.
func (p *Publisher) PublishAll(ctx context.Context, out []event.Publication) []event.Receipt {
	ctx, cancel := context.WithTimeout(ctx, p.opt.PublishTimeout)
	defer cancel()
	results := make([]event.Receipt, len(out))
	sent := make([]redis.Cmder, len(out))
	began := time.Now()
	var first event.Group
	if len(out) > 0 {
		first = out[0].Group
	}
	ctx, span := p.startSpan(ctx, first, len(out))
	defer span.End()
	p.sendAll(ctx, out, sent, results)
	if p.refusedUndone(ctx, out, sent) && ctx.Err() == nil {
		p.sendAll(ctx, out, sent, results)
	}
	p.metrics.seconds.Observe(time.Since(began).Seconds())
	for i, o := range out {
		if cmd := sent[i]; cmd != nil { // else sendAll has stored why
			if err := readReceipt(&results[i], cmd); err != nil {
				results[i].Err = fmt.Errorf("publish to %s: %w", o.Group, err)
			}
		}
		p.metrics.count(results[i].Err)
		if results[i].Err != nil {
			span.Fail(failedSpan)
		}
	}
	return results
}

// readReceipt reads what Redis answered to a command.
func readReceipt(r *event.Receipt, cmd redis.Cmder) error {
	if err := cmd.Err(); err != nil {
		return err
	}
	switch answer := cmd.(type) {
	case *redis.Cmd:
		return recorded(r, answer)
	case *redis.IntCmd:
		r.Nodes = answer.Val()
	}
	return nil
}

// sendAll sends the publications that were not sent yet or were undone, in their order and in one
// round trip. It stores the commands in sent, and the error of a publication that cannot be sent in
// results.
func (p *Publisher) sendAll(ctx context.Context, out []event.Publication, sent []redis.Cmder, results []event.Receipt) {
	type server struct {
		latest string // latest moment, by the server's clock
		err    error
	}
	trace := tracing.TraceOf(ctx)
	servers := make(map[uint16]server) // by slot; servers in the map know the script
	pipe := p.client.Pipeline()
	for i, o := range out {
		if sent[i] != nil && !undone(sent[i]) {
			continue
		}
		if err := o.Check(p.opt.largest()); err != nil {
			results[i].Err = err
			continue
		}
		results[i].Err = nil // of an earlier try
		channel := p.keys.GroupChannel(o.Group)
		if o.Record == nil {
			sent[i] = p.send(ctx, pipe, channel, event.AppendTrace(trace, o.Payload))
			continue
		}
		at, known := servers[p.slot(channel)]
		if !known {
			at.latest, at.err = p.clocks.Latest(ctx, channel)
			servers[p.slot(channel)] = at
		}
		if at.err != nil {
			sent[i], results[i].Err = nil, fmt.Errorf("publish to %s: %w", o.Group, at.err)
			continue
		}
		sent[i] = p.record(ctx, pipe, o, recordCall{at.latest, !known, trace})
	}
	if pipe.Len() > 0 {
		_, span := p.opt.Tracer.Start(ctx, "redis", tracing.Client)
		span.Text("db.system.name", "redis")
		span.Number("db.operation.batch.size", pipe.Len())
		_ = redisreply.Exec(ctx, pipe) // each command has its own error
		span.End()
	}
}

// undone reports whether a server refused a command without doing anything. Either it did not know
// the script, such as a server that was just given the slot, or the command was late.
func undone(cmd redis.Cmder) bool {
	return redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") || redistime.IsLate(cmd.Err())
}

// refusedUndone reports whether a command was refused without effect. If a command was late, its
// server's clock is read again.
func (p *Publisher) refusedUndone(ctx context.Context, out []event.Publication, sent []redis.Cmder) (some bool) {
	for i, cmd := range sent {
		if cmd == nil || !undone(cmd) {
			continue
		}
		some = true
		if redistime.IsLate(cmd.Err()) {
			p.clocks.Forget(ctx, p.keys.GroupChannel(out[i].Group))
		}
	}
	return some
}
