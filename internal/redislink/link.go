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
	canary string // its canary channel; owned by receive
}

// runLink opens a link, uses it until it breaks or ctx ends, and returns why it broke.
func runLink(ctx context.Context, o Options, start func(ctx context.Context) (Connection, User, error), before *past) error {
	started := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	var working sync.WaitGroup
	defer cancel(nil)
	c, user, err := start(ctx)
	if err != nil {
		return err
	}
	defer user.Closed() // last, when nothing uses the link anymore
	defer working.Wait()
	defer cancel(nil)
	l := &Link{opt: o, conn: c.Dialer.Subscribe(ctx), health: health{nonce: rand.Text(), channel: c.Canary, on: true}, canary: c.Canary}
	// While the library reads, it ignores the end of a context. Only closing the connection ends
	// the read.
	working.Go(func() {
		<-ctx.Done()
		_ = l.conn.Close() // it fails only if the connection is closed already
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
	return context.Cause(ctx) // the first function to end set the cause
}

// open connects and subscribes. It returns when Redis has confirmed the subscription and has said
// that it is a master. It fails at a server that refuses password or permissions, and at a replica,
// which would accept subscriptions too.
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
			return fmt.Errorf("open: %s: %w", c.Subscribe, err) // Redis may not name it
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
		received, err := l.conn.Receive(ended, max(time.Until(until), 1)) // 0 would mean no timeout
		if err != nil {
			return err
		}
		if role, ok := received.(subconn.Role); ok {
			return role.Err()
		}
	}
}

// receive passes on what arrives on the link until the link fails. It waits only for the socket and
// the user.
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
		return nil // UNSUBSCRIBE without names means all channels
	}
	ctx, cancel := context.WithTimeout(ctx, l.opt.Timeout)
	cancel() // see endedContext; the deadline still applies to the write
	if err := l.conn.Send(ctx, command, channels...); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// SetCanary sets the channel on which canaries arrive from now on. With on false, they do not
// arrive. Only methods of the [User] that do not overlap may call it.
func (l *Link) SetCanary(channel string, on bool) {
	l.canary = channel
	l.health.setCanary(channel, on)
}

// Healthy returns nil if a canary arrived within the timeout.
func (l *Link) Healthy(now time.Time) error { return l.health.healthy(now, l.opt.Timeout) }

// endedContext returns a context that has ended. On an open connection, go-redis obeys only a
// context's deadline. But with a live context, it reacts to a broken connection, or to a server's
// request to move, by silently opening another connection, and no loss would ever be reported.
func endedContext(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// sendCanaries publishes canaries until ctx ends. A strict link also asks for its server's role
// each time.
func (l *Link) sendCanaries(ctx context.Context) {
	trouble := loglimit.Limiter{Interval: l.opt.LogInterval}
	for {
		if l.opt.Strict {
			_ = l.askIfDue(time.Now()) // receive meets the same error
		}
		channel, payload, number := l.health.nextCanary(time.Now())
		if channel != "" { // else the channel is about to change
			deadline, cancel := context.WithTimeout(ctx, l.opt.Timeout)
			err := l.opt.Publish(deadline, channel, payload)
			cancel()
			switch {
			case err == nil:
				l.health.canaryAccepted(channel, number, time.Now())
			case ctx.Err() == nil:
				// The link may work although publishing does not. Healthy reports that; dropping
				// the link would only add gaps.
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

// watchSteps is how often a link is checked within the timeout.
const watchSteps = 5

// watch checks the link at short intervals until ctx ends, and returns an error if the link must be
// dropped.
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

// askIfDue asks for the role of the server, unless a question is open. The answer is also the sign
// of life, because a server that cannot save refuses PING.
func (l *Link) askIfDue(now time.Time) error {
	if l.opt.AnyRole || !l.health.ask(now) {
		return nil
	}
	if err := l.conn.Ask(l.opt.Timeout); err != nil {
		return fmt.Errorf("ask for the role: %w", err)
	}
	return nil
}
