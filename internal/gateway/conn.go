package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/presence"
	"orgcast/internal/session"
	"orgcast/internal/trail"
)

// conn is one connection and the root of its goroutine tree:
//
//   - one goroutine that reads until the end and then tears down, in await and read by turns;
//   - one in handle, while messages wait for the consumer: usually the one that has read them, while
//     another one awaits more;
//   - those that the consumer started with Go;
//   - the writer's, while the socket has no room for what is queued.
//
// The server's [wheel] handles pings, expiry and idleness.
type conn struct {
	// Set before the first goroutine starts, and not changed after that.
	client
	consumer consumer.OrganizationAwareConsumer
	ctx      context.Context //nolint:containedctx // the root of the tree, for goroutines that start later
	cancel   context.CancelCauseFunc
	started  time.Time
	pingAt   time.Duration // the silence after which it is pinged, jittered so that pings spread out
	proceed  func()        // c.read, bound once so that await allocates nothing

	groups memberships
	inbox  inbox
	writer writer

	lease   lease.Lease  // owned by the server's Leases
	renewed atomic.Int64 // the new end of the session in Unix milliseconds if it was renewed, else 0

	pinged time.Duration // the age at which the unanswered ping was sent, 0 if none; for tick alone

	tree sync.WaitGroup // all goroutines except the reading one and the writer's

	mu       sync.Mutex
	attached bool // the request was upgraded, and the writer has its transport, which never changes
	ended    bool // the context has ended
	left     bool // reading has stopped, and messages read so far are being handled
	gone     bool // nothing can be written anymore, and nothing is held
	ending   int  // what it holds of its organization's room for ending connections

	index int32      // in the server's list, whose lock guards it
	place wheelPlace // owned by the wheel; the last field, so that it fits next to the flags
}

var (
	_ consumer.Resumer = (*conn)(nil)
	_ consumer.Limiter = (*conn)(nil)
	_ consumer.Tokened = (*conn)(nil)
	_ hub.Remembered   = (*conn)(nil)
	_ trail.Owner      = (*conn)(nil)
)

// Identity implements consumer.Conn and lease.Holder.
func (c *conn) Identity() session.Identity {
	id := c.identity
	if renewed := c.renewed.Load(); renewed != 0 {
		id.Expires = time.UnixMilli(renewed)
	}
	return id
}

// Renew implements lease.Holder. The wheel checks the new end when the old one comes. If the new
// end is earlier than the old one, package lease acts on it.
func (c *conn) Renew(expires time.Time) { c.renewed.Store(expires.UnixMilli()) }

// Join implements consumer.Conn. The group belongs to the connection's organization; a consumer
// cannot name another organization.
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
	c.depart(presence.Closed, g)
}

// Charge implements consumer.Limiter.
func (c *conn) Charge(n int) error { return c.groups.charge(n, time.Since(c.started)) }

// MaxGroups implements consumer.Limiter.
func (c *conn) MaxGroups() int { return c.host.options.GroupsPerConnection }

// RenewToken implements consumer.Tokened.
func (c *conn) RenewToken(ctx context.Context, token string) (expires time.Time, err error) {
	if c.host.options.Leases == nil {
		return time.Time{}, session.ErrNotRenewable
	}
	return c.host.options.Leases.RenewToken(ctx, &c.lease, token)
}

// Send implements consumer.Conn.
func (c *conn) Send(v any) error {
	if e, ok := v.(*event.Event); ok {
		if err := c.admit(e.Alone()); err != nil {
			return err
		}
		c.writer.send(e.Alone().Bytes(c.kind.outbox.Shape, c.kind.outbox.Encoding))
		return nil
	}
	if refused, ok := v.(consumer.ErrorFrame); ok {
		c.noteDenied(refused)
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

// Offer implements hub.Member. If there is no room, the route's policy decides what is dropped.
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

// attach gives the connection its upgraded transport and lets the writer start.
func (c *conn) attach(t Transport) {
	c.mu.Lock()
	c.writer.transport, c.attached = t, true
	_, c.writer.personal = t.(Personal)
	c.inbox.talked.Store(int64(time.Since(c.started))) // the browser could not send anything earlier
	ended := c.ended
	c.mu.Unlock()
	if ended { // during the upgrade
		c.noteEnd(context.Cause(c.ctx))
		if causeOf(context.Cause(c.ctx)).how.is(mute) {
			t.Mute()
		}
		t.Expire(c.endTime())
	}
	c.writer.box.Open()
	c.writer.flush()
	_ = t.Begin() // if it fails, the reader meets the end
}

// tick ends the connection if its session has ended or its peer is silent, sends a ping if one is
// due, and returns when to call it again. The server calls it when the connection begins, and then
// the wheel does. It never blocks.
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
		o.Leases.Doubt(&c.lease) // the session may have been renewed since the last check
		expires = doubtInterval
	}
	if left { // reading has stopped, so silence means nothing
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
	// A message, or the silence after a pong, may begin at any moment, so their full times count.
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

// doubtInterval is how soon tick checks a connection again whose session seems to have ended.
// Package lease ends the connection unless the store says that the session was renewed.
const doubtInterval = time.Second
