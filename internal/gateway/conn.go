package gateway

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/bucket"
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/socket"
)

// conn is one connection and the root of its goroutine tree:
//
//   - one that reads, for the whole life, and in the end tears down: await and read in turn;
//   - writeLoop, while the socket has no room for what is queued;
//   - receiveLoop, while frames wait for the consumer;
//   - what the consumer started with Go.
//
// Pings, expiry and idleness are looked after by the server's [wheel].
type conn struct {
	// Fixed before the first goroutine.
	server   *Server
	id       string
	identity session.Identity
	route    *consumer.Route
	params   consumer.Params
	query    string // not yet parsed: few consumers ask
	protocol string
	budget   *budget // of the organization
	consumer consumer.OrganizationAwareConsumer
	handler  consumer.EventHandler // nil if the consumer is none
	ctx      context.Context       //nolint:containedctx // the root of the tree, for goroutines that start later
	cancel   context.CancelCauseFunc
	started  time.Time
	pingAt   time.Duration // the silence after which it is pinged: jittered, so that not all are at once
	proceed  func()        // read, bound once so that await allocates nothing

	lease   lease.Lease  // owned by the server's Leases
	renewed atomic.Int64 // the end of the session in Unix milliseconds if it was moved, else 0

	// Owned by the wheel.
	place  wheelPlace
	pinged time.Duration // the age at which the ping left that nothing has answered yet; 0 for none

	handling atomic.Bool // the writer is in HandleEvent

	tree sync.WaitGroup // everything beside the one that reads

	mu        sync.Mutex
	transport transport // nil until the upgrade
	queue     *batch
	queued    int // bytes queued, held or being written
	held      int // bytes held in starts
	writing   bool
	ended     bool // the context has ended; nothing of inbox is handed on any more
	sealed    bool // no more is queued: the close frame is, or nothing can be written
	gone      bool // no more is written
	groups    []event.Group
	named     bucket.Bucket // for the groups that frames name, beyond one each
	starts    []*start      // of groups whose history was asked for
	inbox     []event.Frame
	unheard   int // bytes in inbox
	receiving bool
	left      bool          // nothing is read any more; what was read is being handled
	handled   chan struct{} // closed, and then nil, when that is done and written; nil unless left
	overdue   bool          // left, and the time for that is over
	talked    time.Duration // the age at which the last message of the browser came, or it could first send one
}

var (
	_ consumer.Resumer = (*conn)(nil)
	_ consumer.Limiter = (*conn)(nil)
)

// ID implements consumer.Conn.
func (c *conn) ID() string { return c.id }

// Identity implements consumer.Conn and lease.Holder.
func (c *conn) Identity() session.Identity {
	id := c.identity
	if renewed := c.renewed.Load(); renewed != 0 {
		id.Expires = time.UnixMilli(renewed)
	}
	return id
}

// Renew implements lease.Holder. The wheel looks again when the session would have ended before;
// an earlier end than before lease finds out.
func (c *conn) Renew(expires time.Time) { c.renewed.Store(expires.UnixMilli()) }

// Param implements consumer.Conn.
func (c *conn) Param(name string) string { return c.params.Get(name) }

// Query implements consumer.Conn.
func (c *conn) Query() url.Values {
	values, _ := url.ParseQuery(c.query) // what is well formed of it, as net/http does
	return values
}

// Protocol implements consumer.Conn.
func (c *conn) Protocol() string { return c.protocol }

// Join implements consumer.Conn. The organization is the connection's own; there is no way to name
// another.
func (c *conn) Join(ctx context.Context, name string) error {
	if c.identity.Organization.IsZero() {
		return orgctx.ErrNoOrganization
	}
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	joined, err := c.reserve(g)
	c.mu.Unlock()
	if joined || err != nil {
		return err
	}
	if err := c.server.hub.Join(ctx, g, c); err != nil {
		c.mu.Lock()
		c.forget(g)
		c.mu.Unlock()
		return fmt.Errorf("join group: %w: %w", ErrOverloaded, err) // the browser may try again
	}
	c.mu.Lock()
	kept := slices.Contains(c.groups, g)
	c.mu.Unlock()
	if !kept { // left, or torn down, before the hub knew us
		c.server.hub.Leave(g, c)
		return cmp.Or(context.Cause(c.ctx), context.Canceled)
	}
	return nil
}

// reserve enters a group among those of the connection. Its caller holds mu.
func (c *conn) reserve(g event.Group) (joined bool, err error) {
	switch {
	case slices.Contains(c.groups, g):
		return true, nil
	case c.ended:
		return false, context.Cause(c.ctx)
	case len(c.groups) >= c.server.options.GroupsPerConnection:
		return false, consumer.ErrTooManyGroups
	}
	c.groups = append(c.groups, g)
	return false, nil
}

// forget removes a group and reports whether it was there. Its caller holds mu.
func (c *conn) forget(g event.Group) bool {
	i := slices.Index(c.groups, g)
	if i < 0 {
		return false
	}
	c.groups = slices.Delete(c.groups, i, i+1)
	return true
}

// Leave implements consumer.Conn.
func (c *conn) Leave(name string) {
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil {
		return
	}
	c.mu.Lock()
	had := c.forget(g)
	c.endStart(g)
	c.mu.Unlock()
	if had {
		c.server.hub.Leave(g, c)
	}
}

// namesBurst is how many groups the browser's frames may name at once, beyond one each: as many as
// the connection may join, since a page that has them all asks for them all when it comes back.
func (o *Options) namesBurst() int { return o.FrameBurst + o.GroupsPerConnection }

// Charge implements consumer.Limiter.
func (c *conn) Charge(n int) error {
	o := &c.server.options
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.named.TakeN(time.Since(c.started), o.FramesPerSecond, o.namesBurst(), n) {
		return ErrRateLimit
	}
	return nil
}

// Send implements consumer.Conn.
func (c *conn) Send(v any) error {
	frame, err := event.Encode(v)
	if err != nil {
		return err
	}
	c.send(frame)
	return nil
}

// send queues a frame of the server's own and lets it go.
func (c *conn) send(frame []byte) {
	if c.enqueue(item{frame: frame}) {
		c.Flush()
	}
}

// Go implements consumer.Conn.
func (c *conn) Go(fn func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.tree.Go(func() {
		if err := c.server.guard(c, "go", func() error { return fn(c.ctx) }); err != nil {
			c.End(err)
		}
	})
}

// attach hands the upgraded socket to the connection and lets the writer begin.
func (c *conn) attach(t transport) {
	c.mu.Lock()
	c.transport = t
	c.talked = time.Since(c.started) // before, it could not
	if c.ended {                     // while the upgrade ran
		cause := context.Cause(c.ctx)
		if causeOf(cause).how.is(mute) {
			t.Mute()
		}
		c.sayGoodbye(cause)
	}
	c.mu.Unlock()
	c.Flush()
}

// tick is called when the connection begins and then by the wheel: it ends the connection if its session is over or its peer silent,
// pings it if it is time, and returns when to look again. It never blocks.
func (c *conn) tick(now time.Time) time.Duration {
	o := &c.server.options
	c.mu.Lock()
	t, talked, left, ended := c.transport, c.talked, c.left, c.ended
	c.mu.Unlock()
	if ended || t == nil {
		return 0
	}
	expires := c.Identity().Expires.Sub(now)
	if expires <= 0 {
		if c.server.options.Leases == nil {
			c.End(ErrSessionEnded)
			return 0
		}
		c.server.options.Leases.Doubt(&c.lease) // it may have been renewed since it was last asked about
		expires = doubtInterval
	}
	if left { // nothing is read any more, so it is not silent
		return expires
	}
	age := now.Sub(c.started)
	heard := t.Heard().Sub(c.started)
	if c.pinged > 0 && heard >= c.pinged {
		c.pinged = 0
	}
	idle := age - heard
	begun, under := t.Unfinished()
	switch {
	case under && now.Sub(begun) >= o.MessageTimeout:
		c.End(ErrUnfinished)
		return 0
	case c.pinged > 0 && age-c.pinged >= o.PongTimeout,
		o.IdleTimeout > 0 && age-talked >= o.IdleTimeout:
		c.End(ErrSilent)
		return 0
	case c.pinged == 0 && idle >= c.pingAt:
		c.pinged = age
		c.send(socket.PingFrame())
	}
	// The bare durations are for what may begin at any moment: a message, or the silence after a pong.
	next := min(expires, o.MessageTimeout, c.pingAt)
	if under {
		next = min(next, o.MessageTimeout-now.Sub(begun))
	}
	if c.pinged > 0 {
		next = min(next, o.PongTimeout-(age-c.pinged))
	} else {
		next = min(next, c.pingAt-idle)
	}
	if o.IdleTimeout > 0 {
		next = min(next, o.IdleTimeout-(age-talked))
	}
	return next
}

// doubtInterval is how soon a connection past the end of its session is looked at again, which ends unless
// somebody says that the session was renewed.
const doubtInterval = time.Second
