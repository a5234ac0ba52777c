package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// conn is one connection and the root of its goroutine tree:
//
//   - one that reads, for the whole life, and in the end tears down: await and read in turn;
//   - handle, while frames wait for the consumer;
//   - what the consumer started with Go;
//   - the writer's, while the socket has no room for what is queued.
//
// Pings, expiry and idleness are looked after by the server's [wheel].
type conn struct {
	// Fixed before the first goroutine.
	client
	onEnd    func(*conn)
	consumer consumer.OrganizationAwareConsumer
	ctx      context.Context //nolint:containedctx // the root of the tree, for goroutines that start later
	cancel   context.CancelCauseFunc
	started  time.Time
	pingAt   time.Duration // the silence after which it is pinged: jittered, so that not all are at once
	proceed  func()        // read, bound once so that await allocates nothing

	groups memberships
	inbox  inbox
	writer writer

	lease   lease.Lease  // owned by the server's Leases
	renewed atomic.Int64 // the end of the session in Unix milliseconds if it was moved, else 0

	// Owned by the wheel.
	place  wheelPlace
	pinged time.Duration // the age at which the ping left that nothing has answered yet; 0 for none

	tree sync.WaitGroup // everything but the one that reads, and the writer

	mu       sync.Mutex
	attached bool // the request was upgraded, and the writer has its transport, which never changes
	ended    bool // the context has ended
	left     bool // nothing is read any more; what was read is being handled
}

var (
	_ consumer.Resumer = (*conn)(nil)
	_ consumer.Limiter = (*conn)(nil)
)

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
	return c.groups.join(ctx, c.ctx, g, c)
}

// Leave implements consumer.Conn.
func (c *conn) Leave(name string) {
	g, err := event.NewGroup(c.identity.Organization, name)
	if err != nil {
		return
	}
	c.writer.box.Forget(g)
	c.groups.leave(g, c)
}

// Charge implements consumer.Limiter.
func (c *conn) Charge(n int) error { return c.groups.charge(n, time.Since(c.started)) }

// Send implements consumer.Conn.
func (c *conn) Send(v any) error {
	if e, ok := v.(*event.Event); ok {
		if err := c.admit(e.Alone()); err != nil {
			return err
		}
		c.writer.send(e.Alone().Bytes(c.kind.outbox.Shape, c.kind.outbox.Encoding))
		return nil
	}
	text, err := event.Marshal(v)
	if err == nil && c.kind.v1 {
		err = consumer.CheckFrame(v, text)
	}
	if err != nil {
		return err
	}
	c.writer.send(c.kind.carrier.Frame(text))
	return nil
}

// Offer implements hub.Member. Where there is no room, the route says what gives way.
func (c *conn) Offer(b *event.Burst) (flush bool) { return c.writer.act(c.writer.box.Offer(b)) }

// Flush implements hub.Member.
func (c *conn) Flush() { c.writer.flush() }

// OfferGap implements hub.Member.
func (c *conn) OfferGap(g event.Group) {
	if c.writer.act(c.writer.box.Gap(g)) {
		c.writer.flush()
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
		if err := c.guard("go", func() error { return fn(c.ctx) }); err != nil {
			c.End(err)
		}
	})
}

// attach hands the upgraded socket to the connection and lets the writer begin.
func (c *conn) attach(t Transport) {
	c.mu.Lock()
	c.writer.transport, c.attached = t, true
	c.writer.personal, _ = t.(Personal)
	c.inbox.talked.Store(int64(time.Since(c.started))) // before, it could not
	ended := c.ended
	c.mu.Unlock()
	if ended { // while the upgrade ran
		if causeOf(context.Cause(c.ctx)).how.is(mute) {
			t.Mute()
		}
		t.Expire(c.host.options.CloseTimeout)
	}
	c.writer.box.Open()
	c.writer.flush()
}

// tick is called when the connection begins and then by the wheel: it ends the connection if its session is over or its peer silent,
// pings it if it is time, and returns when to look again. It never blocks.
func (c *conn) tick(now time.Time) time.Duration {
	o := &c.host.options
	c.mu.Lock()
	idle, left := c.ended || !c.attached, c.left
	c.mu.Unlock()
	if idle {
		return 0
	}
	t := c.writer.transport
	expires := c.Identity().Expires.Sub(now)
	if expires <= 0 {
		if o.Leases == nil {
			c.End(ErrSessionEnded)
			return 0
		}
		o.Leases.Doubt(&c.lease) // it may have been renewed since it was last asked about
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
	silence, talked := age-heard, time.Duration(c.inbox.talked.Load())
	begun, under := t.Unfinished()
	switch {
	case under && now.Sub(begun) >= o.MessageTimeout:
		c.End(ErrUnfinished)
		return 0
	case c.pinged > 0 && age-c.pinged >= o.PongTimeout,
		o.IdleTimeout > 0 && age-talked >= o.IdleTimeout:
		c.End(ErrSilent)
		return 0
	case c.pinged == 0 && silence >= c.pingAt:
		c.pinged = age
		c.writer.send(c.kind.carrier.PingFrame())
	}
	// The bare durations are for what may begin at any moment: a message, or the silence after a pong.
	next := min(expires, o.MessageTimeout, c.pingAt)
	if under {
		next = min(next, o.MessageTimeout-now.Sub(begun))
	}
	if c.pinged > 0 {
		next = min(next, o.PongTimeout-(age-c.pinged))
	} else {
		next = min(next, c.pingAt-silence)
	}
	if o.IdleTimeout > 0 {
		next = min(next, o.IdleTimeout-(age-talked))
	}
	return next
}

// doubtInterval is how soon a connection past the end of its session is looked at again, which ends unless
// somebody says that the session was renewed.
const doubtInterval = time.Second
