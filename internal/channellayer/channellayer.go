// Package channellayer brings events that a Django site sends with Channels' group_send to the
// groups of organizations. A [Layer] stands next to the bus of package pubsub: both take the same
// subscriptions and call the same [Sink].
//
// # Groups
//
// A group of Channels belongs to no organization. A node joins it once, when the first of its
// organizations wants a group with that name. The organization_id of each event decides who gets
// it: members of that organization's group alone. An event without a valid organization_id is
// dropped and counted.
//
// # Layers
//
// In the pub/sub layer, a group is a Redis channel, and being a member is being subscribed.
//
// In the core layer, a group is a sorted set of channel names, and each process has a queue from
// which it pops. A sender drops a message in silence if the queue holds 100. So a node has several
// queues, and spreads its groups over them. Senders also remove members that have not shown
// themselves for a while, so a node adds itself again all the time.
//
// A site may spread its groups over several servers by their names. Each server is followed on its
// own, and the node's queues for its groups are on the same server.
//
// # Gaps
//
// Neither layer keeps a history. The Sink's Gap is called if events of a group may have been lost:
// after the connection was lost, after a queue was found full, when a sender had removed the node
// from the group, and when an organization sends more than its share.
package channellayer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/redislink"
	"orgcast/internal/subconn"
	"orgcast/internal/trail"
)

var (
	// ErrRunning is returned by Run while another Run of the same layer is running.
	ErrRunning = errors.New("channel layer: already running")
	// ErrNoLink says that there is no connection, or that it has not shown that it works.
	ErrNoLink = errors.New("channel layer: no connection")
	// ErrUnconfirmed says that Redis did not confirm a membership in time.
	ErrUnconfirmed = errors.New("channel layer: joining a group was not confirmed in time")
)

// Kind is one of the two layers of channels_redis.
type Kind string

// The layers.
const (
	Core   Kind = "core"   // channels_redis.core.RedisChannelLayer
	PubSub Kind = "pubsub" // channels_redis.pubsub.RedisPubSubChannelLayer
)

// Defaults of channels_redis, and of [Options].
const (
	DefaultPrefix       = "asgi"
	DefaultRandomPrefix = 12
	DefaultQueues       = 16
	MaxQueues           = 256
	MaxHosts            = 64 // servers of one layer

	subscribeTimeout = 5 * time.Second
	renewInterval    = 10 * time.Second
)

// Sink takes what a Layer receives; the hub is one. Its methods must not block. A Layer may call
// them from several goroutines.
type Sink interface {
	// Deliver takes an event of a subscribed group.
	Deliver(e *event.Event)
	// Gap says that events of the group may have been lost at this point in its order.
	Gap(g event.Group)
}

// Options are the options of [New].
type Options struct {
	Kind Kind
	// Prefix is the first part of the layer's names in Redis.
	Prefix string
	// Decoder reads the layer's payloads. It is required.
	Decoder *wire.Decoder
	// Queues is how many queues the node has on each server of the core layer. Default:
	// [DefaultQueues].
	Queues int
	// Limits may change while events flow.
	Limits
	// LinkTimeout is how long the server may be silent before the connection counts as lost.
	// Default: [redislink.DefaultTimeout].
	LinkTimeout time.Duration
	// RenewInterval is how often the node adds itself again to its groups in the core layer, and
	// StallLimit how long it may fail to read its queues before it reports a gap. Default: 10 s.
	RenewInterval, StallLimit time.Duration
	// Log gets lost connections and dropped messages, never their content. Default: none.
	Log *zap.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
	// Trail remembers dropped events and gaps. Default: none.
	Trail *trail.Trail
}

// Limits bound what the node takes from one organization.
type Limits struct {
	// MaxEventSize is the largest event, in bytes of JSON. Default: event.DefaultMaxSize.
	MaxEventSize int
	// EventsPerSecond and BytesPerSecond are averages. A quarter of a second's worth may come at
	// once. A value that is not positive means no limit.
	EventsPerSecond float64
	BytesPerSecond  int64
}

func (o Options) withDefaults() Options {
	o.Queues = cmp.Or(o.Queues, DefaultQueues)
	o.MaxEventSize = cmp.Or(o.MaxEventSize, event.DefaultMaxSize)
	o.LinkTimeout = cmp.Or(o.LinkTimeout, redislink.DefaultTimeout)
	o.RenewInterval = cmp.Or(o.RenewInterval, renewInterval)
	o.StallLimit = cmp.Or(o.StallLimit, renewInterval)
	o.Log = cmp.Or(o.Log, zap.NewNop()).Named("channellayer")
	return o
}

// Layer receives events of one channel layer. All methods are safe for concurrent use.
type Layer struct {
	opt     Options
	hosts   []*host
	intake  *intake
	running atomic.Bool
}

// New returns a Layer that is idle: events flow while [Layer.Run] runs. There is a client for each
// of the site's servers, in the order in which the site names them, because the order decides which
// groups are on which server. The caller still owns the clients, each of which is for a single
// server or Sentinel and needs ContextTimeoutEnabled.
func New(clients []redis.UniversalClient, o Options) *Layer {
	o = o.withDefaults()
	m := newMetrics(o.Registerer)
	shares := newBudgets()
	l := &Layer{opt: o, intake: newIntake(o, shares, m)}
	queues := 0
	if o.Kind == Core {
		queues = o.Queues
	}
	for i, client := range clients {
		l.hosts = append(l.hosts, &host{
			index: i, of: len(clients), client: client, opt: o, groups: newGroups(queues, shares),
			intake: l.intake, metrics: m, dialer: subconn.NewDialer(client, nil),
		})
	}
	m.registerGroups(o.Registerer, func() (n int) {
		for _, h := range l.hosts {
			n += h.groups.count()
		}
		return n
	})
	return l
}

// Change replaces how messages are read, and the limits.
func (l *Layer) Change(d *wire.Decoder, limits Limits) {
	limits.MaxEventSize = cmp.Or(limits.MaxEventSize, event.DefaultMaxSize)
	l.intake.change(d, limits)
}

// Subscribe asks for the group's events. It returns when the node is a member of the group of
// Channels with that name. If ctx ends first, Subscribe returns its error and does not count. Calls
// are counted; see [Layer.Unsubscribe]. A name that the layer does not allow has no events, so
// Subscribe returns at once.
func (l *Layer) Subscribe(ctx context.Context, g event.Group) error {
	if g.IsZero() {
		return event.ErrInvalidGroup
	}
	if !l.possible(g) {
		return nil
	}
	joined := l.host(g).groups.subscribe(g)
	select {
	case <-joined: // the usual case, which need not touch the context
		return nil
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, subscribeTimeout, ErrUnconfirmed)
	defer cancel()
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
		l.Unsubscribe(g)
		return fmt.Errorf("join %s: %w", g, context.Cause(ctx))
	}
}

// Unsubscribe undoes one Subscribe of the group. It does not wait. Without a Subscribe to undo, it
// does nothing.
func (l *Layer) Unsubscribe(g event.Group) {
	if l.possible(g) {
		l.host(g).groups.unsubscribe(g)
	}
}

// possible reports whether a group of Channels may have the name.
func (l *Layer) possible(g event.Group) bool {
	return l.opt.Kind == PubSub || wire.ValidGroup(g.Name())
}

// host returns the server on which a group's events are.
func (l *Layer) host(g event.Group) *host {
	if len(l.hosts) == 1 {
		return l.hosts[0]
	}
	name := g.Name()
	if l.opt.Kind == PubSub {
		name = wire.PubSubChannel(l.opt.Prefix, name)
	}
	return l.hosts[wire.Host(name, len(l.hosts))]
}

// Healthy returns nil if events flow from every server: its connection has shown within LinkTimeout
// that it works, and no wanted group has waited longer than that to be joined.
func (l *Layer) Healthy() error {
	for _, h := range l.hosts {
		if err := h.healthy(); err != nil {
			return err
		}
	}
	return nil
}

// Run receives events and passes them to sink until ctx ends. It then leaves the groups, and
// returns nil after everything that it started has ended. It survives every failure of Redis. It
// returns [ErrRunning] if Run is already running.
func (l *Layer) Run(ctx context.Context, sink Sink) error {
	if !l.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer l.running.Store(false)
	l.intake.begin(sink)
	settling, stop := context.WithCancel(ctx)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		l.intake.settle(settling)
	}()
	defer func() {
		stop()
		<-settled
	}()
	var following sync.WaitGroup
	for _, h := range l.hosts {
		following.Go(func() { h.follow(ctx) })
	}
	following.Wait()
	return nil
}
