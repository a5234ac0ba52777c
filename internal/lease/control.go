package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/subconn"
)

// Defaults of [ControlOptions], and how long is waited after a loss.
const (
	defaultInterval = time.Second
	defaultTimeout  = 2500 * time.Millisecond // two canaries and a half
	minBackoff      = 50 * time.Millisecond
	maxBackoff      = 2 * time.Second
)

// Why a connection to the control channel was given up.
var (
	errNoCanary   = errors.New("lease: no canary arrived in time")
	errUnexpected = errors.New("lease: unexpected subscription change")
)

// ControlOptions configure a [Control]. The zero value works.
type ControlOptions struct {
	// Interval is the mean pause between two canaries. Default 1 s.
	Interval time.Duration
	// Timeout is how long the connection may be deaf. Default 2.5 s.
	Timeout time.Duration
}

// Control listens to the control channel. It has a connection of its own, so that no announcement
// waits behind a burst of events, and sends itself a canary through Redis to see that it hears. With
// each canary it asks the connection's server for its role, because a replica takes canaries too. In a
// Cluster that is no fault: there every member passes on what is published at any other. Each
// time that it could have missed something, everybody is asked about at once.
type Control struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	channel string
	opt     ControlOptions
	keeper  *Keeper
	log     *zap.Logger
	dialer  *subconn.Dialer
	single  bool // one server, not a Cluster

	listening atomic.Bool
}

// Listening reports whether the control channel is subscribed.
func (c *Control) Listening() bool { return c.listening.Load() }

// NewControl returns a Control that lets a Keeper know what it hears. The client is that of one
// server, Sentinel or Cluster, with ContextTimeoutEnabled; the caller closes it.
func NewControl(client redis.UniversalClient, keys keyspace.Keyspace, k *Keeper, o ControlOptions) *Control {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	_, cluster := client.(*redis.ClusterClient)
	return &Control{
		client: client, keys: keys, channel: keys.Control(), opt: o, keeper: k, log: k.log.Named("control"),
		dialer: subconn.NewDialer(client, nil), single: !cluster,
	}
}

// Run listens until ctx ends; then it returns nil. It survives every failure of Redis.
func (c *Control) Run(ctx context.Context) error {
	backoff := minBackoff
	var lastLog time.Time
	for before := (past{}); ctx.Err() == nil; before.opened = true {
		heard, err := c.listen(ctx, before)
		if before.replica = errors.Is(err, subconn.ErrReplica); before.replica {
			c.dialer.CloseOthers(time.Now())
		}
		if heard {
			backoff = minBackoff
		}
		if ctx.Err() == nil && time.Since(lastLog) >= logInterval {
			lastLog = time.Now()
			c.log.Warn("control connection lost", zap.Error(err))
		}
		// A jittered pause keeps nodes from coming back all at once.
		select {
		case <-time.After(backoff/2 + mathrand.N(backoff/2+1)): //nolint:gosec // jitter is no secret
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// past is what came before a connection.
type past struct {
	opened  bool // another one, or the attempt to open one
	replica bool // it led to a replica
}

// listen opens a connection and hands on what it brings until it is lost or ctx ends. heard says
// whether it ever worked.
func (c *Control) listen(ctx context.Context, before past) (heard bool, err error) {
	started := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	canary := c.keys.Canary("control-" + rand.Text())
	conn := c.dialer.Subscribe(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	// PubSub ignores the end of a context while it reads: only closing it ends that.
	wg.Go(func() {
		<-ctx.Done()
		_ = conn.Close() // an error says that it was closed before
	})
	if err := c.open(ctx, conn, canary); err != nil {
		return false, err
	}
	if before.opened {
		c.keeper.metrics.reconnects.Inc()
	}
	if before.replica {
		c.dialer.CloseOthers(started) // what was dialed earlier may still lead to it
	}
	wg.Go(func() { c.sing(ctx, conn, canary) })
	// What was announced before this point may be lost. What is announced from now on is heard.
	c.keeper.Missed()
	c.keeper.metrics.up.Set(1)
	defer c.keeper.metrics.up.Set(0)
	c.listening.Store(true)
	defer c.listening.Store(false)

	// With a context that lives, go-redis would answer a loss by opening another connection behind
	// our back, and nobody would ask about what was missed.
	ended, end := context.WithCancel(ctx)
	end()
	last := time.Now() // canary
	for {
		received, err := conn.Receive(ended, max(c.opt.Timeout-time.Since(last), 1)) // 0 would be for ever
		if err == nil && time.Since(last) > c.opt.Timeout {
			err = errNoCanary
		}
		if err != nil {
			return heard, fmt.Errorf("receive: %w", err)
		}
		switch m := received.(type) {
		case *redis.Message:
			if m.Channel == c.channel {
				c.hear(m.Payload)
			} else {
				last, heard = time.Now(), true
			}
		case subconn.Role:
			if err := m.Err(); err != nil {
				return heard, err
			}
		case *redis.Subscription:
			return heard, fmt.Errorf("%w: %s", errUnexpected, m.Kind)
		}
	}
}

// open subscribes, and returns when Redis has confirmed it and said that it is a master. In a Cluster every member carries the control
// channel, and the client goes to the master of the first name's slot. That is the canary's, another one
// each time: so nodes spread over the masters, and do not wait for one that is away.
func (c *Control) open(ctx context.Context, conn *subconn.Conn, canary string) error {
	dialing, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	if err := conn.Send(dialing, "subscribe", canary, c.channel); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	for _, channel := range []string{canary, c.channel} {
		received, err := conn.Receive(ended, c.opt.Timeout)
		if err != nil {
			return fmt.Errorf("open: subscribe: %w", err) // Redis may not say which command it refuses
		}
		if m, ok := received.(*redis.Subscription); !ok || m.Kind != "subscribe" || m.Channel != channel {
			return fmt.Errorf("open: %w", errUnexpected)
		}
	}
	if !c.single {
		return nil
	}
	if err := conn.Ask(c.opt.Timeout); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	for until := time.Now().Add(c.opt.Timeout); ; {
		received, err := conn.Receive(ended, max(time.Until(until), 1)) // 0 would be for ever
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if role, ok := received.(subconn.Role); ok {
			return role.Err()
		}
		// An announcement that comes so early counts among those that may be lost.
	}
}

// sing publishes canaries, and asks for the role of the connection's server, until ctx ends. What
// does not leave shows at the other end.
func (c *Control) sing(ctx context.Context, conn *subconn.Conn, canary string) {
	for {
		if c.single {
			_ = conn.Ask(c.opt.Timeout)
		}
		deadline, cancel := context.WithTimeout(ctx, c.opt.Timeout)
		_ = c.client.Publish(deadline, canary, "1").Err()
		cancel()
		pause := c.opt.Interval*4/5 + mathrand.N(c.opt.Interval*2/5+1) //nolint:gosec // jitter is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// hear takes a message that came over the control channel.
func (c *Control) hear(payload string) {
	m, err := Decode([]byte(payload))
	switch {
	case errors.Is(err, ErrUnknownType): // of a newer version
		c.keeper.metrics.messages.WithLabelValues(labelUnknown).Inc()
	case err != nil:
		c.keeper.metrics.messages.WithLabelValues(labelMalformed).Inc()
		c.log.Warn("control message ignored", zap.Error(err))
	default:
		n := c.keeper.Apply(m)
		c.log.Info("control message", zap.String("type", string(m.Type)), zap.Int("connections", n),
			zap.String("user", m.UserID), zap.Stringer("organization", m.Organization), zap.String("session", m.SessionID))
	}
}

// String helps in tests.
func (m Message) String() string {
	b, err := m.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
