package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/admin"
	"orgcast/internal/api"
	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/hub"
	"orgcast/internal/journal"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/session"
)

// sessionStore is what both kinds of session store can do.
type sessionStore interface {
	session.Store
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
}

// node is one gateway process, its parts put together but not yet at work:
//
//	browser ─ public ─ gateway ─ hub ─ bus ─ Redis
//	                      │                   │
//	           session, directory, quota ─────┤
//	                      lease ──────────────┘
//	ops ─ private ─ admin ─ api ─ bus, revoker
type node struct {
	settings  *settings
	log       *zap.Logger
	metrics   *prometheus.Registry
	redis     redisClients
	keys      keyspace.Keyspace
	sessions  sessionStore
	directory directory.Directory
	leases    *lease.Keeper
	control   *lease.Control
	revoker   *lease.Revoker
	bus       *pubsub.Redis
	hub       *hub.Hub
	quota     *quota.Redis
	gateway   *gateway.Server
	admission *admission

	stopping atomic.Bool
	cancel   context.CancelCauseFunc // ends the gateway's connections, hard
	stopBus  context.CancelFunc
	running  *errgroup.Group
}

// newNode makes the parts. Nothing waits for Redis: a node without it starts, and is not ready.
// The node's own contexts do not descend from ctx's end: a signal begins a goodbye, not a cut.
func newNode(ctx context.Context, s *settings, log *zap.Logger) (*node, error) {
	keys, err := s.keyspace()
	if err != nil {
		return nil, err
	}
	clients, err := s.connect(0)
	if err != nil {
		return nil, err
	}
	n := &node{settings: s, log: log, metrics: prometheus.NewRegistry(), redis: clients, keys: keys}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if n.sessions, err = newSessionStore(s, n.redis.state, keys); err != nil {
		return nil, errors.Join(err, n.redis.Close())
	}
	n.directory = directory.TrustSession{}
	if s.directory == "redis" {
		if n.directory, err = directory.NewRedis(n.redis.state, keys); err != nil {
			return nil, errors.Join(err, n.redis.Close())
		}
	}
	if err := n.newLeases(); err != nil {
		return nil, errors.Join(err, n.redis.Close())
	}
	busOptions := s.busOptions()
	busOptions.Logger, busOptions.Registerer = log, n.metrics
	n.bus = pubsub.NewRedis(n.redis.events, keys, busOptions)
	n.hub = hub.New(n.bus, hub.Options{Registry: n.metrics, Log: log})
	n.quota = quota.NewRedis(n.redis.state, keys, quota.Options{Limit: s.maxPerOrganization, Log: log, Registerer: n.metrics})
	n.admission = newAdmission(n)
	routes, err := newRoutes(n)
	if err != nil {
		return nil, errors.Join(err, n.redis.Close())
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	n.cancel = cancel
	o := s.gatewayOptions()
	o.History, o.Quota, o.Leases, o.Violated = n.bus, n.quota, n.leases, n.violated
	o.Routes, o.Hub, o.Sessions, o.Membership, o.Log, o.Registry = routes, n.hub, n.resolver(), n.directory, log, n.metrics
	if o.Origins, err = gateway.ParseOrigins(s.origins); err == nil {
		o.Proxies, err = gateway.ParseProxies(s.trustedProxies)
	}
	if err == nil {
		n.gateway, err = gateway.New(base, o)
	}
	if err != nil {
		cancel(err)
		return nil, errors.Join(err, n.redis.Close())
	}
	return n, nil
}

// newLeases makes what watches over open connections, and what revokes.
func (n *node) newLeases() error {
	var err error
	if n.revoker, err = newRevoker(n.settings, n.redis, n.keys); err != nil {
		return err
	}
	n.leases, err = lease.NewKeeper(lease.Options{
		Sessions: n.resolver(), Directory: n.directory, Period: n.settings.leasePeriod, Deadline: n.settings.leaseDeadline,
		Log: n.log, Registerer: n.metrics,
	})
	if err != nil {
		return err
	}
	n.control = lease.NewControl(n.redis.events, n.keys, n.leases, lease.ControlOptions{})
	return nil
}

// resolver returns the sessions without those that were revoked.
func (n *node) resolver() session.Store {
	return session.Revocable{Store: n.sessions, Revocations: n.revoker.Revocations}
}

// newRevoker makes what changes records and announces it.
func newRevoker(s *settings, clients redisClients, keys keyspace.Keyspace) (*lease.Revoker, error) {
	revocations, err := session.NewRevocations(clients.state, keys)
	if err != nil {
		return nil, err
	}
	r := &lease.Revoker{Announcer: lease.NewAnnouncer(clients.events, keys), Revocations: revocations, SessionLife: s.sessionMaxAge}
	if s.directory == "redis" {
		if r.Members, err = directory.NewRedis(clients.state, keys); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// newSessionStore makes the store that the settings name.
func newSessionStore(s *settings, client redis.UniversalClient, keys keyspace.Keyspace) (sessionStore, error) {
	o := session.Options{Name: s.sessionCookie, MaxAge: s.sessionMaxAge, Insecure: s.sessionInsecure}
	if s.sessionStore == "redis" {
		return session.NewRedisStore(client, keys, o)
	}
	pairs, err := parseKeys(s.sessionKeys)
	if err != nil {
		return nil, err
	}
	store, err := session.NewCookieStore(pairs, o)
	if err != nil {
		return nil, err
	}
	s.onReload(func(next *settings) (func(), error) {
		pairs, err := parseKeys(next.sessionKeys)
		if err != nil {
			return nil, fmt.Errorf("--session-keys: %w", err)
		}
		return store.PrepareKeys(pairs)
	})
	return store, nil
}

// start lets events flow.
func (n *node) start(ctx context.Context) {
	ctx, n.stopBus = context.WithCancel(context.WithoutCancel(ctx))
	n.running = new(errgroup.Group)
	n.running.Go(func() error { return n.bus.Run(ctx, n.hub) })
	n.running.Go(func() error { return n.quota.Run(ctx) })
	n.running.Go(func() error { return n.leases.Run(ctx) })
	n.running.Go(func() error { return n.control.Run(ctx) })
	n.running.Go(func() error { n.admission.run(ctx); return nil })
	n.running.Go(func() error { n.warnOfSharedServer(ctx); return nil })
	n.running.Go(func() error { trimMemory(ctx); return nil })
}

// admin returns the handler of the private listener.
func (n *node) admin() http.Handler {
	o := admin.Options{Metrics: n.metrics, Ready: map[string]admin.Check{
		"events":        func(context.Context) error { return n.bus.Healthy() },
		admissionReport: func(context.Context) error { return n.admission.healthy() },
		"isolation":     func(context.Context) error { return n.isolated() },
		"drain": func(context.Context) error {
			if n.stopping.Load() {
				return errors.New("this node is going away")
			}
			return nil
		},
	}}
	if n.settings.publishKey != "" {
		key := api.NewKey(n.settings.publishKey)
		n.settings.onReload(func(next *settings) (func(), error) {
			return func() { key.Set(next.publishKey) }, nil
		})
		o.API = api.New(api.Options{Key: key, Publisher: n.bus, Revoker: n.revoker, Log: n.log})
	}
	return admin.New(o)
}

// isolated says why the node is not ready if an isolation violation was counted. The count never falls, so it
// stays that way until a restart: a fault of the gateway that let one event get as far as the last
// comparison may let others through elsewhere.
func (n *node) isolated() error {
	if n.settings.onViolation == violationUnready && n.gateway.Violations() > 0 {
		return errors.New("an isolation violation was counted; see the log, then restart this node")
	}
	return nil
}

// violated logs what the first isolation violation means for the node.
func (n *node) violated() {
	if n.settings.onViolation == violationUnready {
		n.log.Error("isolation violation counted, not ready until a restart")
		return
	}
	n.log.Error("isolation violation counted, staying ready (--on-violation=count)")
}

// stop says goodbye: not ready, then a pause for the balancer, then the farewells, then the bus.
// Each step is bounded in time. public accepts until the farewells are said.
func (n *node) stop(public *http.Server) error {
	n.stopping.Store(true)
	n.log.Info("going away", zap.Int("connections", n.gateway.Connections()), zap.Duration("wait", n.settings.drainWait), zap.Duration("drain", n.settings.drain))
	time.Sleep(n.settings.drainWait)
	ctx, cancel := context.WithTimeout(context.Background(), n.settings.drain+n.settings.closeTimeout+time.Second)
	defer cancel()
	err := n.gateway.Drain(ctx, n.settings.drain)
	return errors.Join(err, shutdown(ctx, public), n.close())
}

// shutdown ends a server in order, and cuts off requests that do not end with it: a stranger who
// dawdles over one is no failure of ours.
func shutdown(ctx context.Context, s *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if s.Shutdown(ctx) == nil {
		return nil
	}
	return s.Close()
}

// close ends what is left, at once.
func (n *node) close() error {
	n.cancel(context.Canceled)
	n.gateway.Wait()
	var err error
	if n.stopBus != nil {
		n.stopBus()
		err = n.running.Wait()
		n.hub.Wait()
	}
	return errors.Join(err, n.redis.Close())
}

// newLogger makes the log of the process. What libraries log of their own accord goes there, too.
func newLogger(s *settings, w *journal.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(s.logLevel)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if s.logFormat == "console" {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	log := journal.NewLogger(w, encoder, level)
	logRedis(log, w)
	if _, err := zap.RedirectStdLogAt(log.Named("library").WithOptions(journal.FreeText()), zapcore.WarnLevel); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return log, nil
}

// listen binds an address, so that a port of 0 is known before anything serves.
func listen(ctx context.Context, setting, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %w (try %s %s)", setting, err, setting, nextPort(address))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}

// nextPort returns an address beside one that is taken.
func nextPort(address string) string {
	host, port, _ := net.SplitHostPort(address) // it was parsed before
	n, err := strconv.Atoi(port)
	if err != nil || n >= 65535 {
		n = 8080
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1))
}

const (
	// readTimeout ends clients that dawdle over their request or announce a body that never comes,
	// which net/http waits for before it sends a refusal. It ends with the upgrade.
	readTimeout = 10 * time.Second
	// idleTimeout ends kept-alive connections between plain HTTP requests.
	idleTimeout = 60 * time.Second
	// maxHeader is far above what a cookie and a handshake take.
	maxHeader = 32 << 10
)

// newHTTPServer returns the server of a listener that is not for strangers: the private one, and the
// demo's. For the public one see [gateway.Server.HTTPServer].
func newHTTPServer(h http.Handler, log *zap.Logger) *http.Server {
	errorLog, err := zap.NewStdLogAt(log.Named("http").WithOptions(journal.FreeText()), zap.WarnLevel)
	if err != nil {
		errorLog = zap.NewStdLog(log) // the level is valid, so this does not happen
	}
	// HTTP/1.1 alone: a browser that agreed on HTTP/2 could not open a WebSocket here.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: h, Protocols: &protocols, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: errorLog,
	}
}
