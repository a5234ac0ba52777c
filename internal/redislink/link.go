package redislink

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/loglimit"
	"orgcast/internal/subconn"
)

// Link is one subscription connection, from its opening to its loss. Redis answers on it in order.
// Its methods are safe for concurrent use.
type Link struct {
	opt    Options
	conn   *subconn.Conn
	health health
	canary string // the channel of its canaries; owned by receive
}

// runLink opens a link, works on it until it breaks or ctx ends, and returns why it broke.
func runLink(ctx context.Context, o Options, start func(ctx context.Context) (Connection, User, error), before *past) error {
	started := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	var working sync.WaitGroup
	defer cancel(nil)
	c, user, err := start(ctx)
	if err != nil {
		return err
	}
	defer user.Closed() // last: nothing works on the link any more
	defer working.Wait()
	defer cancel(nil)
	l := &Link{opt: o, conn: c.Dialer.Subscribe(ctx), health: health{nonce: rand.Text(), channel: c.Canary, on: true}, canary: c.Canary}
	// The library ignores the end of a context while it reads: only closing the connection ends
	// that.
	working.Go(func() {
		<-ctx.Done()
		_ = l.conn.Close() // an error says that it was closed before
	})
	if err := l.open(ctx, c); err != nil {
		return err
	}
	if before.opened {
		o.Reopened()
	}
	before.leave(o.Others, l.conn.Remote(), started)
	work := func(run func(ctx context.Context) error) {
		working.Go(func() { cancel(run(ctx)) })
	}
	user.Opened(l, work)
	working.Go(func() { l.sendCanaries(ctx) })
	work(func(ctx context.Context) error { return l.watch(ctx, user) })
	cancel(l.receive(ctx, user, c.Check))
	return context.Cause(ctx) // the first of them to end knows why
}

// open connects and subscribes. It returns when Redis has confirmed that, and has said that it is a
// master: a server that refuses password or rights is found out here, and so is a replica, which
// would take subscriptions as well.
func (l *Link) open(ctx context.Context, c Connection) error {
	channels := append([]string{c.Canary}, c.Channels...)
	dialing, cancel := context.WithTimeout(ctx, l.opt.Timeout)
	defer cancel()
	if err := l.conn.Send(dialing, c.Subscribe, channels...); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ended := endedContext(ctx)
	for _, channel := range channels {
		received, err := l.conn.Receive(ended, l.opt.Timeout)
		if err != nil {
			return fmt.Errorf("open: %s: %w", c.Subscribe, err) // Redis may not say which command it refuses
		}
		if m, ok := received.(*redis.Subscription); !ok || m.Kind != c.Subscribe || m.Channel != channel {
			return fmt.Errorf("open: %w: %v", ErrUnexpected, received)
		}
	}
	if !l.opt.AnyRole {
		if err := l.mustLead(ended); err != nil {
			return fmt.Errorf("open: %w", err)
		}
	}
	l.health.openedAt = time.Now()
	return nil
}

// mustLead returns an error unless the server says that it is a master.
func (l *Link) mustLead(ended context.Context) error {
	if err := l.conn.Ask(l.opt.Timeout); err != nil {
		return err
	}
	for until := time.Now().Add(l.opt.Timeout); ; { // messages may come first
		received, err := l.conn.Receive(ended, max(time.Until(until), 1)) // 0 would be no timeout
		if err != nil {
			return err
		}
		if role, ok := received.(subconn.Role); ok {
			return role.Err()
		}
	}
}

// receive hands on what the link brings until the link fails. It waits for nothing but the socket
// and the user.
func (l *Link) receive(ctx context.Context, user User, check func(ctx context.Context, received any) error) error {
	ended := endedContext(ctx)
	for {
		received, err := l.conn.Receive(ended, 0)
		now := time.Now()
		if err != nil {
			if user.Refused(err, now) {
				l.health.arrived(now)
				continue
			}
			return fmt.Errorf("receive: %w", err)
		}
		if check != nil {
			if err := check(ctx, received); err != nil {
				return err
			}
		}
		l.health.arrived(now)
		switch m := received.(type) {
		case *redis.Message:
			if m.Channel != l.canary {
				user.Message(m, now)
			} else if took, latest := l.health.canaryReturned(m.Payload, now); latest {
				l.opt.Returned(took)
			}
		case *redis.Subscription:
			if err := user.Subscription(m, now); err != nil {
				return err
			}
		case subconn.Role:
			if err := m.Err(); err != nil && !l.opt.AnyRole {
				return err
			}
			l.health.answered()
		}
	}
}

// Send writes one command for the channels.
func (l *Link) Send(ctx context.Context, command string, channels []string) error {
	if len(channels) == 0 {
		return nil // without names UNSUBSCRIBE means all
	}
	ctx, cancel := context.WithTimeout(ctx, l.opt.Timeout)
	cancel() // see endedContext; the deadline of the write stays
	if err := l.conn.Send(ctx, command, channels...); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// SetCanary says on which channel the canaries arrive from now on, or with on false, that they do
// not arrive. It is for methods of the [User] that wait for each other.
func (l *Link) SetCanary(channel string, on bool) {
	l.canary = channel
	l.health.setCanary(channel, on)
}

// Healthy returns nil if a canary arrived within the timeout.
func (l *Link) Healthy(now time.Time) error { return l.health.healthy(now, l.opt.Timeout) }

// endedContext returns a context that has ended. On an open connection go-redis heeds only a
// context's deadline, but with a context that lives it answers a broken connection, or a server's
// request to move, by opening another one behind our back, and no loss would ever be reported.
func endedContext(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// sendCanaries publishes canaries until ctx ends. A strict link asks for the role of its server as
// often.
func (l *Link) sendCanaries(ctx context.Context) {
	trouble := loglimit.Limiter{Interval: l.opt.LogInterval}
	for {
		if l.opt.Strict {
			_ = l.askIfDue(time.Now()) // what is wrong shows at the receiver, too
		}
		channel, payload, number := l.health.nextCanary(time.Now())
		if channel != "" { // else it is about to be another one
			deadline, cancel := context.WithTimeout(ctx, l.opt.Timeout)
			err := l.opt.Publish(deadline, channel, payload)
			cancel()
			switch {
			case err == nil:
				l.health.canaryAccepted(channel, number, time.Now())
			case ctx.Err() == nil:
				// The link may be sound though publishing is not: Healthy tells, but giving up the
				// link would only add gaps.
				if suppressed, ok := trouble.Allow(time.Now()); ok {
					l.opt.Log.Warn("publishing canary failed", zap.Error(err), zap.Int("suppressed", suppressed))
				}
			}
		}
		select {
		case <-time.After(jittered(l.opt.Interval)):
		case <-ctx.Done():
			return
		}
	}
}

// watchSteps is how often within the timeout a link is looked at.
const watchSteps = 5

// watch looks at the link at short intervals until ctx ends, and returns why the link must be given
// up if it must.
func (l *Link) watch(ctx context.Context, user User) error {
	ticker := time.NewTicker(l.opt.Timeout / watchSteps)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		if err := l.health.judge(now, l.opt.Timeout, l.opt.Strict, user.UnconfirmedSince()); err != nil {
			return err
		}
		if err := l.askIfDue(now); err != nil {
			return err
		}
	}
}

// askIfDue asks for the role of the server, unless a question is under way. That is also the sign
// of life: a server that cannot save refuses PING.
func (l *Link) askIfDue(now time.Time) error {
	if l.opt.AnyRole || !l.health.ask(now) {
		return nil
	}
	if err := l.conn.Ask(l.opt.Timeout); err != nil {
		return fmt.Errorf("ask for the role: %w", err)
	}
	return nil
}
