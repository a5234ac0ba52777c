// Package gateway serves connections, from the HTTP request to the end. It is the only package that
// knows both HTTP and connections; package socket implements WebSocket. The gateway refuses a
// request before the upgrade. Every connection that it serves has a session, an organization and a
// consumer, and organizations are compared once more before each write.
package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/bucket"
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/tracing"
	"orgcast/internal/trail"
)

// Server serves connections. It is an http.Handler; create it with [New]. [Server.Drain] ends all
// connections and tells their clients when to come back. [Server.Wait] returns when they have
// ended.
type Server struct {
	shared
	now    atomic.Pointer[host] // what the next connection gets
	limits *limits
	wheel  wheel
	leases *lease.Keeper // may be nil

	// slowestEnd is the longest that any connection may take from its end to its last byte, in
	// nanoseconds; it never falls, because open connections keep their limits.
	slowestEnd atomic.Int64
	answerTime time.Duration // of the options that the server began with

	base     context.Context //nolint:containedctx // the root of every connection's tree
	draining atomic.Bool
	serving  sync.WaitGroup // connections, requests that may become one, and the wheel

	samples     sampler                    // limits log lines that strangers can cause
	crossOrigin http.CrossOriginProtection // for plain requests

	mu        sync.Mutex
	over      bool                   // base has ended
	conns     []*conn                // each knows its place
	explained map[Transport]struct{} // refusals that were upgraded to tell the reason
	onEmpty   []chan struct{}        // closed when both become empty
}

// New returns a Server whose connections live under ctx: when ctx ends, they end at once, with its
// cause. The server's own goroutines end with ctx, too.
func New(ctx context.Context, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		shared: shared{hub: o.Hub, trail: o.Trail, log: o.Log.Named("gateway"), turns: &turns{slots: make(chan struct{}, 2*turnsAtOnce())}, crew: new(crew)},
		limits: newLimits(&o), leases: o.Leases, answerTime: answerTime(&o), base: ctx, explained: make(map[Transport]struct{}),
	}
	s.onClosed, s.onEnd = s.removeLease, s.forget
	s.metrics = newMetrics(o.Registerer, s.queuedBytes, s.limits.receivedBytes)
	s.use(newHost(s.shared, o))
	s.serving.Go(func() {
		s.wheel.run(ctx, s.crew.trim)
		s.crew.close()
		s.mu.Lock()
		s.over = true // enter refuses requests from now on
		for t := range s.explained {
			t.Expire(0)
		}
		s.mu.Unlock()
		if s.draining.Load() { // connections that Drain did not see
			s.endAll(func(*conn) error { return DrainError{RetryAfter: minReturn} })
		}
		s.endAll(func(*conn) error { return context.Cause(ctx) }) // also those that a drain waits for because the browser has left
	})
	return s, nil
}

// serve admits or refuses a request. Checks that cost less and reveal less come first.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	h := s.now.Load()
	ks := h.kindsFor(r)
	allowed := ks != nil && h.allows(r, ks.carrier)
	if allowed && ks.carrier.Prepare(w, r) {
		return
	}
	if s.draining.Load() || !s.enter() {
		s.refuse(w, r, refusal{err: DrainError{RetryAfter: retryDelay}})
		return
	}
	defer s.serving.Done()
	if s.limits.full() {
		s.refuse(w, r, refusal{err: ErrOverloaded})
		return
	}
	path := r.URL.EscapedPath()
	if ks != nil {
		path = ks.carrier.Path(path)
	}
	route, params, ok := h.options.Routes.Match(path)
	if !ok || len(path) > maxPath {
		s.refuse(w, r, refusal{err: ErrUnknownPath})
		return
	}
	if ks == nil {
		w.Header().Set("Sec-WebSocket-Version", "13")
		s.refuse(w, r, refusal{err: ErrNoHandshake, route: route})
		return
	}
	if len(r.URL.RawQuery) > maxQuery {
		s.refuse(w, r, refusal{err: ErrQueryTooLong, route: route})
		return
	}
	if !allowed {
		s.refuse(w, r, refusal{err: ErrOrigin, route: route})
		return
	}
	h.extend(w, s.answerTime)
	// The checks above are nearly free. Those below are not.
	if retry, ok := s.limits.pace.take(); !ok {
		s.refuse(w, r, refusal{err: PaceError{RetryAfter: retry}, route: route})
		return
	}
	r, span := h.traced(r, route)
	defer span.End()
	mark, asked := s.mark()
	identity, err := s.identify(r.Context(), r, route)
	who := owner{identity.Organization, identity.UserID}
	if err != nil {
		s.explain(w, r, refusal{err, route, who})
		return
	}
	budget, err := s.limits.take(r.Context(), who)
	if err != nil {
		s.refuse(w, r, refusal{err, route, who})
		return
	}
	c := s.newConn(r, ks, client{host: h, route: route, params: params, identity: identity, budget: budget})
	admitted(span, c)
	if err = s.addLease(r, c, mark, asked); err == nil {
		err = s.connect(r.Context(), c)
	}
	if err != nil {
		s.discard(c, err)
		s.explain(w, r, refusal{err, route, who})
		return
	}
	// From here on, Disconnect must run.
	t, err := ks.carrier.Upgrade(w, r, intake{&c.client})
	if err != nil { // Upgrade has answered if it could
		if _, told := errors.AsType[Refusal](err); !told {
			err = fmt.Errorf("%w: %w", ErrPeerGone, err)
		}
		s.note(r, refusal{err, route, who})
		s.discard(c, ErrPeerGone)
		c.disconnect(ErrPeerGone)
		return
	}
	s.metrics.connections.Inc()
	s.metrics.accepted.Observe(time.Since(began).Seconds())
	s.mu.Lock()
	c.index = int32(len(s.conns)) //nolint:gosec // far less
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	c.attach(t)
	if s.draining.Load() || s.base.Err() != nil { // Drain may have taken its snapshot before
		c.End(DrainError{RetryAfter: retryDelay})
	}
	if next := c.tick(time.Now()); next > 0 {
		s.wheel.schedule(c, next)
	}
	// The connection gets its own goroutine, so that net/http's, with its deep stack and its
	// buffers, can end.
	s.serving.Add(1) // until forget
	c.noteServed()
	c.begin()
}

// enter makes Wait wait for a request. It reports false if the server's context has ended.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.serving.Add(1)
	return true
}

// mark returns the moment from which announcements count for a new connection.
func (s *Server) mark() (mark lease.Mark, asked time.Time) {
	if s.leases == nil {
		return 0, time.Time{}
	}
	return s.leases.Mark()
}

// addLease registers the connection's lease. It returns an error if the session or membership that
// identify found was revoked after the mark.
func (s *Server) addLease(r *http.Request, c *conn, mark lease.Mark, asked time.Time) error {
	if s.leases == nil {
		return nil
	}
	return s.leases.Add(&c.lease, c, s.leases.Ticket(r), mark, asked)
}

// removeLease removes the lease that addLease registered.
func (s *Server) removeLease(c *conn) {
	if s.leases != nil {
		s.leases.Remove(&c.lease)
	}
}

// maxPath and maxQuery bound the path and the query of a request, in bytes, because a connection
// keeps both until it ends.
const (
	maxPath  = 2 << 10
	maxQuery = 2 << 10
)

// newConn creates the connection of an admitted client. Its context descends from the server's, not
// from the request's, which ends when the handler returns. Text of the request that the connection
// keeps is copied, because a part of a header line would keep all of it in memory, up to 32 KiB.
func (s *Server) newConn(r *http.Request, ks *kinds, who client) *conn {
	ctx := context.WithoutCancel(s.base) // endAll ends connections when s.base ends
	ctx = orgctx.WithMember(ctx, who.identity.Organization, orgctx.User(who.identity.UserID))
	who.id, who.query = rand.Text(), strings.Clone(r.URL.RawQuery)
	who.from = newCaller(who.host.options.Proxies.Client(r), r)
	protocol := 0
	if ks.carrier.Offers(r, consumer.ProtocolV1) {
		protocol = 1
	}
	who.kind = &ks.of[who.route.WhenFull][protocol]
	c := &conn{
		client: who, consumer: who.route.New(), started: time.Now(),
		pingAt: who.host.options.PingInterval - time.Duration(mathrand.Int64N(int64(who.host.options.PingInterval)/8)), //nolint:gosec // jitter is no secret
	}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.trail = s.trail.Connect(trail.Client{
		Organization: c.identity.Organization, ID: c.id, User: c.identity.UserID, HearsGaps: c.kind.v1, Owner: c,
	})
	c.inbox.client = &c.client
	c.groups.host, c.groups.named = c.host, bucket.New(namesBurst(&c.host.options))
	c.writer.client, c.writer.failed = &c.client, c.writeFailed
	c.writer.box.Init(&c.kind.outbox, &c.writer)
	if h, ok := c.consumer.(consumer.EventHandler); ok {
		c.writer.handle = func(e *event.Event) bool { return h.HandleEvent(c.ctx, c, e) }
	}
	return c
}

// welcomeFrame is the first frame of a connection with the subprotocol.
type welcomeFrame struct {
	Type           string    `json:"type"` // "welcome"
	OrganizationID orgctx.ID `json:"organization_id"`
	UserID         string    `json:"user_id"`
	// UserGroup is the name of the user's own group, empty without an organization.
	UserGroup    string `json:"user_group,omitempty"`
	ConnectionID string `json:"connection_id"`
	PingMS       int64  `json:"ping_ms"`
	// MaxFrame is the largest frame that the browser may send, in bytes.
	MaxFrame int64 `json:"max_frame"`
	// Resume says whether the client can ask for missed events.
	Resume bool `json:"resume"`
}

// connect runs the Connect hook. It returns when the hook returns. The browser's end of the request
// and HookTimeout end the connection, and so the hook's context.
func (s *Server) connect(request context.Context, c *conn) error {
	o := &c.host.options
	if c.kind.v1 {
		var userGroup string
		if !c.identity.Organization.IsZero() {
			userGroup = event.UserGroupName(c.identity.UserID)
		}
		frame, err := c.kind.frame(welcomeFrame{
			Type: "welcome", OrganizationID: c.identity.Organization, UserID: c.identity.UserID,
			UserGroup: userGroup, ConnectionID: c.id, PingMS: o.PingInterval.Milliseconds(),
			MaxFrame: o.MaxFrame,
			Resume:   c.host.resumer() != nil,
		})
		if err != nil {
			return err
		}
		c.writer.send(frame)
	}
	// Both end the connection's context. A derived context would stay registered with it.
	deadline := time.AfterFunc(o.HookTimeout, func() { c.End(context.DeadlineExceeded) })
	defer deadline.Stop()
	defer context.AfterFunc(request, func() { c.End(ErrPeerGone) })()
	err := c.guard("connect", func() error { return c.consumer.Connect(tracing.Under(c.ctx, request), c) })
	if err == nil || errors.Is(err, context.Canceled) {
		if cause := context.Cause(c.ctx); cause != nil { // the hook may have called End
			return cause
		}
	}
	return err
}

// discard ends a connection that was never served.
func (s *Server) discard(c *conn, cause error) {
	c.End(cause)
	s.removeLease(c)
	c.depart(departureOf(cause), c.groups.end(c)...)
	c.tree.Wait()
	c.writer.box.Abandon()
	c.trail.Forget()
	s.limits.give(owner{c.identity.Organization, c.identity.UserID})
}

// forget removes an ended connection.
func (s *Server) forget(c *conn) {
	s.wheel.remove(c)
	c.budget.account.end(&c.writer.tally)
	s.limits.give(owner{c.identity.Organization, c.identity.UserID})
	s.metrics.connections.Dec()
	s.mu.Lock()
	s.remove(c)
	s.tellIfEmpty()
	s.mu.Unlock()
	s.serving.Done()
}

// remove takes a connection off the list. The caller holds s.mu.
func (s *Server) remove(c *conn) {
	last := len(s.conns) - 1
	moved := s.conns[last]
	s.conns[c.index], moved.index = moved, c.index
	s.conns[last] = nil
	s.conns = s.conns[:last]
	if room := cap(s.conns); room > leastRoom && last < room/4 {
		s.conns = append(make([]*conn, 0, room/2), s.conns...)
	}
}

// leastRoom is how many connections the list always has room for.
const leastRoom = 64

// tellIfEmpty wakes those who wait for the last connection to end. Its caller holds s.mu.
func (s *Server) tellIfEmpty() {
	if len(s.conns)+len(s.explained) > 0 {
		return
	}
	for _, done := range s.onEmpty {
		close(done)
	}
	s.onEmpty = nil
}

// endAll ends every connection with the cause that the function returns for it.
func (s *Server) endAll(cause func(*conn) error) {
	for _, c := range s.snapshot() {
		c.End(cause(c))
	}
}

// snapshot returns the open connections. The lock is held for a copy of their list, which takes some
// 20 µs for 50,000.
func (s *Server) snapshot() []*conn {
	s.mu.Lock()
	room := len(s.conns) + len(s.conns)/16 + 1
	s.mu.Unlock()
	all := make([]*conn, 0, room)
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(all, s.conns...)
}

// Connections returns how many connections are open, including refusals that are being explained.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) + len(s.explained)
}

// Organizations returns how many organizations have connections.
func (s *Server) Organizations() int { return s.limits.organizations() }

// queuedBytes returns how many bytes are queued for all connections.
func (s *Server) queuedBytes() float64 {
	total := 0
	for _, c := range s.snapshot() {
		total += c.writer.box.Bytes()
	}
	return float64(total)
}

// Wait returns when the server's context and all goroutines of the server and its connections have
// ended.
func (s *Server) Wait() { s.serving.Wait() }
