// Package app assembles the parts of a process, starts them and stops them. Each acquired resource
// registers its undo at once, on one stack. The end of the process unwinds the stack.
package app

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/channellayer"
	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/hub"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/nodes"
	"orgcast/internal/outgoing"
	"orgcast/internal/presence"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/session"
	"orgcast/internal/tail"
	"orgcast/internal/tracing"
	"orgcast/internal/trail"
	"orgcast/internal/usage"
	"orgcast/internal/webhook"
)

// Node is one gateway process. Its parts are assembled but not yet running:
//
//	browser ─ public ─ gateway ─ hub ─ bus ─ Redis
//	                      │                   │
//	           session, directory, quota ─────┤
//	                      lease ──────────────┘
//	ops ─ private ─ admin ─ api ─ bus, revoker, nodes
type Node struct {
	Options   *Options // those that it was made with
	Log       *zap.Logger
	Metrics   *prometheus.Registry
	Redis     *Clients
	Keys      keyspace.Keyspace
	Sessions  *Sessions
	Directory directory.Directory
	Bus       *pubsub.Redis
	Gateway   *gateway.Server

	calls     *outgoing.Client
	tracer    *tracing.Tracer // nil if tracing is off
	leases    *lease.Keeper
	control   *lease.Control
	revoker   *lease.Revoker
	layer     *channellayer.Layer // nil without one
	hub       *hub.Hub
	trail     *trail.Trail
	quota     *quota.Redis
	tasks     *quota.Tasks
	admission *admission
	services  *Services
	nodes     *nodes.Nodes
	presence  *presence.Room
	usage     *usage.Redis // nil if nothing is kept
	recorder  *usage.Recorder
	tails     *tail.Tails
	webhooks  *webhook.Recorder  // nil if nobody is told
	deliverer *webhook.Deliverer // likewise
	routes    *consumer.Registry

	stopping atomic.Bool
	now      atomic.Pointer[Options] // a reload replaces them
	reloads  reloadSteps
	undo     *stack
	// startWebhooks starts webhooks, if there are any.
	startWebhooks func()
	// background runs a function until the undo of the bus ends its context and waits for it.
	background func(run func(ctx context.Context) error)
}

// New creates the parts. It does not wait for Redis: a node without Redis starts, and is not ready.
// The node's own contexts do not end with ctx, because a signal begins a drain and does not cut
// connections.
func New(ctx context.Context, o *Options, log *zap.Logger) (*Node, error) {
	return newNode(ctx, o, log, newStack())
}

// newNode is New with a stack on which the caller may have registered undos. After an error, the
// stack is unwound.
func newNode(ctx context.Context, o *Options, log *zap.Logger, undo *stack) (*Node, error) {
	n := &Node{Options: o, Log: log, Metrics: prometheus.NewRegistry(), undo: undo, startWebhooks: func() {}}
	n.now.Store(o)
	n.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range []func(context.Context) error{
		n.connect, n.addStores, n.addLeases, n.addWebhooks, n.addBus, n.addPresence, n.addGateway, n.addNodes, n.addTails,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, undo.unwind())
		}
	}
	return n, nil
}

// connect creates the clients of Redis and of other programs.
func (n *Node) connect(context.Context) (err error) {
	if n.Keys, err = n.Options.Keyspace(); err != nil {
		return err
	}
	n.tracer = startTracing(n.Options, n.Log, n.Metrics, n.undo)
	if n.Redis, err = n.Options.Connect(0); err != nil {
		return err
	}
	n.undo.add("Redis", undoTimeout, func(context.Context) error { return n.Redis.Close() })
	n.reloads.addCertificates(n.Redis.prepareReload)
	networks, err := ParseNetworks(n.Options.Webhooks.PrivateNetworks)
	if err != nil {
		return err
	}
	n.calls = outgoing.New(outgoing.Options{PrivateNetworks: networks, Registerer: n.Metrics, Tracer: n.tracer})
	n.undo.add("calls to other programs", undoTimeout, func(context.Context) error { n.calls.Close(); return nil })
	return nil
}

// addStores creates the parts that decide who may connect.
func (n *Node) addStores(context.Context) (err error) {
	n.Sessions, err = n.Options.sessions(storeParts{
		client: n.Redis.State, keys: n.Keys, calls: n.calls, asked: newAskedMetric(n.Metrics), log: n.Log, reloads: &n.reloads,
	})
	if err != nil {
		return err
	}
	n.undo.add("questions about sessions", undoTimeout, func(context.Context) error { n.Sessions.Close(); return nil })
	n.Directory, err = newDirectory(n.Options, n.Redis, n.Keys)
	return err
}

// addLeases creates the parts that check open connections, and the revoker.
func (n *Node) addLeases(context.Context) (err error) {
	if n.revoker, err = NewRevoker(n.Options, n.Redis, n.Keys); err != nil {
		return err
	}
	n.leases, err = lease.NewKeeper(lease.Options{
		Sessions: n.Resolver(), Directory: n.Directory, Period: n.Options.LeasePeriod, Deadline: n.Options.LeaseDeadline,
		Log: n.Log, Registerer: n.Metrics,
	})
	if err != nil {
		return err
	}
	n.control = lease.NewControl(n.Redis.Events, n.Keys, n.leases, lease.ControlOptions{})
	return nil
}

// addBus creates the parts that carry events, and the quota.
func (n *Node) addBus(ctx context.Context) error {
	n.trail = trail.New(trail.Options{BytesPerOrganization: n.Options.ExplainBytesPerOrganization, Bytes: n.Options.ExplainBytes})
	limits := n.Options.busLimits()
	bus := pubsub.Options{
		MaxEventSize: limits.MaxEventSize, EventsPerSecond: limits.EventsPerSecond, BytesPerSecond: limits.BytesPerSecond, Log: n.Log, Registerer: n.Metrics, Trail: n.trail, Tracer: n.tracer,
	}
	n.Bus = pubsub.NewRedis(n.Redis.Events, n.Keys, bus)
	if err := n.addChannelLayer(); err != nil {
		return err
	}
	o := hub.Options{Registerer: n.Metrics, Log: n.Log, Trail: n.trail}
	if n.webhooks != nil {
		o.Changed = n.webhooks.Changed
	}
	n.hub = hub.New(n.events(), o)
	n.quota = quota.NewRedis(n.Redis.State, n.Keys, quota.Options{Limit: n.Options.MaxPerOrganization, Log: n.Log, Registerer: n.Metrics})
	n.admission = newAdmission(n)
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	running := new(errgroup.Group)
	n.background = func(run func(ctx context.Context) error) { running.Go(func() error { return run(ctx) }) }
	n.undo.add("bus", undoTimeout, func(context.Context) error {
		stop()
		err := running.Wait()
		n.hub.Wait()
		return err
	})
	return nil
}

// addGateway creates the parts that serve browsers.
func (n *Node) addGateway(ctx context.Context) error {
	o, err := n.Options.gatewayOptions()
	if err != nil {
		return err
	}
	o.History, o.Quota, o.Leases, o.Violated = n.Bus, n.quota, n.leases, n.violated
	o.Hub, o.Sessions, o.Membership, o.Log, o.Registerer = n.hub, n.Resolver(), n.Directory, n.Log, n.Metrics
	o.Trail, o.Tracer, o.Presence = n.trail, n.tracer, n.presence
	if n.webhooks != nil {
		o.Observer = webhookObserver{n.webhooks}
	}
	if err := n.addRoutes(); err != nil {
		return err
	}
	o.Routes = n.routes
	base, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	if n.Gateway, err = gateway.New(base, o); err != nil {
		cut(err)
		return err
	}
	n.reloads.add(n.prepareSettings)
	n.undo.add("connections", undoTimeout, func(context.Context) error {
		cut(context.Canceled)
		n.Gateway.Wait()
		return nil
	})
	return nil
}

// Resolver returns the session store without revoked sessions.
func (n *Node) Resolver() session.Store {
	return session.Revocable{Store: n.Sessions, Revocations: n.revoker.Revocations}
}

// Start starts the background work. It is called once, before Close.
func (n *Node) Start() {
	n.runEvents()
	n.background(n.quota.Run)
	n.background(n.leases.Run)
	n.background(n.control.Run)
	n.background(n.nodes.Run)
	n.background(n.presence.Run)
	n.background(n.recorder.Run)
	n.background(n.tails.Run)
	n.startWebhooks()
	n.background(func(ctx context.Context) error { n.admission.run(ctx); return nil })
	n.background(func(ctx context.Context) error { n.warnOfSharedServer(ctx); return nil })
	n.background(func(ctx context.Context) error { trimMemory(ctx); return nil })
}

// Serves registers the server of the gateway's connections. Close then begins with a drain.
func (n *Node) Serves(server *http.Server) {
	within := func() time.Duration {
		o := n.options()
		return undoTimeout + o.DrainWait + o.Drain + n.Gateway.SlowestEnd()
	}
	n.undo.addWithin("drain", within, func(ctx context.Context) error { return n.drain(ctx, server) })
}

// OnClose registers an undo for a resource that was acquired after New. Close calls it before all
// undos registered earlier, and stops waiting for it after a time.
func (n *Node) OnClose(name string, undo func(ctx context.Context) error) {
	n.undo.add(name, undoTimeout, undo)
}

// Close undoes everything, in reverse order, each in bounded time. Calling it again does nothing
// and returns the same error.
func (n *Node) Close() error { return n.undo.unwind() }

// drain reports not ready, waits for load balancers, then closes the connections. server accepts
// connections until then.
func (n *Node) drain(ctx context.Context, server *http.Server) error {
	o := n.options()
	n.stopping.Store(true)
	n.Log.Info("stopping", zap.Int("connections", n.Gateway.Connections()), zap.Duration("wait_seconds", o.DrainWait), zap.Duration("drain_seconds", o.Drain))
	time.Sleep(o.DrainWait)
	err := n.Gateway.Drain(ctx, o.Drain)
	return errors.Join(err, shutdown(ctx, server))
}

// shutdown shuts a server down, and cuts off requests that do not end in time: a slow stranger is
// not an error of the node.
func shutdown(ctx context.Context, s *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if s.Shutdown(ctx) == nil {
		return nil
	}
	return s.Close()
}
