package pubsub

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/redislink"
	"orgcast/internal/subconn"
)

// Reasons why a node is not healthy.
var (
	// ErrNoLink says that there is no subscription connection.
	ErrNoLink = errors.New("pubsub: no subscription connection")
	// ErrNoCanary says that no message of this node to itself arrived recently.
	ErrNoCanary = errors.New("pubsub: no canary arrived in time")
	// ErrUnconfirmed says that Redis did not confirm a subscription in time.
	ErrUnconfirmed = errors.New("pubsub: a subscription was not confirmed in time")
)

// Redis is a bus through Redis pub/sub: a [Publisher], [Histories], and a receiver. The receiver
// keeps a list of wanted groups (package roster) and one connection, the link, on which it
// subscribes to them (package redislink). In a Redis Cluster, it keeps one link to each master.
//
// Its methods are safe for concurrent use.
type Redis struct {
	*Publisher
	*Histories

	// Set by NewRedis, and not changed after that.
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	opt     Options
	log     *zap.Logger
	metrics *metrics
	subs    *subscriptions
	dialer  *subconn.Dialer // of the client; nil if the server is a Cluster
	cluster *cluster        // nil unless the server is a Cluster

	running atomic.Bool
}

// NewRedis returns a bus that is idle: events flow while [Redis.Run] runs. The caller still owns
// the client, which is for a single server, Sentinel, or a Cluster ([redis.ClusterClient]). The
// client needs ContextTimeoutEnabled. Without it, go-redis obeys only its own timeouts, and a hung
// server blocks Publish, and the end of Run, for that long. A client that retries (MaxRetries) may
// publish an event twice if the answer of Redis is lost. NewRedis adds a hook to the client. It
// opens the link's connection, and closes the other connections if the link turns out to lead to a
// replica.
func NewRedis(client redis.UniversalClient, keys keyspace.Keyspace, opt Options) *Redis {
	opt = opt.withDefaults()
	m := newMetrics(opt.Registerer)
	r := &Redis{
		Publisher: NewPublisher(client, keys, opt),
		Histories: newHistories(client, keys, opt, m),

		client:  client,
		keys:    keys,
		opt:     opt,
		log:     opt.Log.Named("pubsub"),
		metrics: m,
	}
	c, sharded := client.(*redis.ClusterClient)
	r.subs = newSubscriptions(roster.Options{
		Keys: keys, NodeID: opt.NodeID, Sharded: sharded, EventsPerSecond: opt.EventsPerSecond, BytesPerSecond: opt.BytesPerSecond,
	}, m)
	if sharded {
		r.cluster = &cluster{client: c, subs: r.subs, linger: opt.LinkTimeout, log: r.log, changed: make(chan struct{}, 1)}
	} else {
		r.dialer = subconn.NewDialer(client, newSocket)
	}
	return r
}

// Subscribe asks for the group's events. It returns when Redis has confirmed that they will arrive,
// however many links that takes. If ctx ends first, Subscribe returns its error and does not count.
// Calls are counted; see [Redis.Unsubscribe]. A paused group counts as confirmed: it catches up or
// gets a gap before its next event.
func (r *Redis) Subscribe(ctx context.Context, g event.Group) error {
	if g.IsZero() {
		return event.ErrInvalidGroup
	}
	return r.subs.subscribe(ctx, g, r.keys.GroupChannel(g), r.opt.SubscribeTimeout)
}

// Unsubscribe undoes one Subscribe of the group. After the last one, the Sink gets no more events
// of the group, except one that is being delivered right now. It does not wait. Without a Subscribe
// to undo, it does nothing.
func (r *Redis) Unsubscribe(g event.Group) { r.subs.unsubscribe(g, r.keys.GroupChannel(g)) }

// Mark returns the mark from which a client can resume the group, if the client has received the
// same events as the Sink. ok is false if the mark is not known.
func (r *Redis) Mark(g event.Group) (m event.Mark, ok bool) { return r.subs.mark(g) }

// Since is [Histories.Since] without events that this node has delivered under another position.
func (r *Redis) Since(ctx context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error) {
	events, complete, err = r.Histories.Since(ctx, g, after, limit)
	events, complete = r.subs.unseen(g, after, events, complete)
	return events, complete, err
}

// Resume is [Histories.Resume] without events that this node has delivered under another position.
func (r *Redis) Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error) {
	events, complete, err = r.Histories.Resume(ctx, g, after, limit, bytes)
	events, complete = r.subs.unseen(g, after.Position, events, complete)
	return events, complete, err
}

// Healthy returns nil if events flow: within LinkTimeout, a canary came through every link that
// should exist, and no wanted group has waited longer than that for its confirmation.
func (r *Redis) Healthy() error { return r.subs.healthy(r.opt.LinkTimeout) }

// Run receives events and passes them to sink until ctx ends. It then returns nil after everything
// that it started has ended. It survives every failure of Redis: it opens a new link, subscribes to
// the wanted groups again, and reports the gaps. It returns [ErrRunning] if Run is already running.
func (r *Redis) Run(ctx context.Context, sink Sink) error {
	if !r.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer r.running.Store(false)
	d := &delivery{sink: sink, metrics: r.metrics, trail: r.opt.Trail, tracer: r.opt.Tracer}
	if r.cluster != nil {
		r.cluster.run(ctx, func(ctx context.Context, server string) { r.keepLink(ctx, server, d) })
	} else {
		r.keepLink(ctx, "", d)
	}
	return nil
}

// keepLink keeps a link to a server until ctx ends.
func (r *Redis) keepLink(ctx context.Context, server string, d *delivery) {
	o := redislink.Options{
		Publish: func(ctx context.Context, channel, payload string) error {
			return r.send(ctx, r.client, channel, payload).Err()
		},
		Interval: r.opt.CanaryInterval, Timeout: r.opt.LinkTimeout, MinBackoff: r.opt.MinBackoff, MaxBackoff: r.opt.MaxBackoff,
		Others: r.dialer, Log: r.log, Lost: "subscription connection lost",
		Reopened: r.metrics.reconnects.Inc,
		Returned: func(took time.Duration) { r.metrics.canary.Set(took.Seconds()) },
		OnLoss:   func(err error) { r.opt.Trail.LinkLost(server, err) },
	}
	if r.cluster != nil {
		o.Log = r.log.With(zap.String("server", server))
		o.OnLoss = func(err error) {
			r.opt.Trail.LinkLost(server, err)
			r.cluster.look() // the server may have been replaced
		}
	}
	redislink.Keep(ctx, o, func(context.Context) (redislink.Connection, redislink.User, error) { return r.newLink(server, d) })
}

// newLink returns a link to a server and the settings of its connection. This is the only place
// that chooses between plain and sharded subscriptions.
func (r *Redis) newLink(server string, d *delivery) (redislink.Connection, redislink.User, error) {
	l := &link{
		server: server, canary: r.keys.Canary(r.opt.NodeID), subs: r.subs, histories: r.Histories, delivery: d, timeout: r.opt.LinkTimeout, log: r.log,
	}
	c := redislink.Connection{Dialer: r.dialer, Subscribe: "subscribe"}
	if r.cluster != nil {
		var ok bool
		if l.canary, ok = r.subs.canaryOf(server); !ok {
			return c, nil, errNoSlots
		}
		l.node, l.survey = r.cluster.dial(server), r.cluster.look
		c.Dialer, c.Subscribe, c.Check = subconn.NewDialer(l.node, newSocket), "ssubscribe", l.check
	}
	c.Canary = l.canary
	return c, l, nil
}
