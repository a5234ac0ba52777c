package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/redislink"
	"orgcast/internal/subconn"
)

// ControlOptions configure a [Control]. The zero value works.
type ControlOptions struct {
	// Interval is the mean pause between two canaries. Default [redislink.DefaultInterval].
	Interval time.Duration
	// Timeout is how long canaries may stay away. Default [redislink.DefaultTimeout].
	Timeout time.Duration
}

// Control listens to the control channel. It has its own connection (package redislink), so that
// announcements do not wait behind a burst of events. Whenever it could have missed an
// announcement, the Keeper checks all connections at once.
//
// In a Cluster, the server may be a replica, because every server passes on what is published at
// any other.
type Control struct {
	client  redis.Cmdable
	keys    keyspace.Keyspace
	channel string
	opt     ControlOptions
	keeper  *Keeper
	log     *zap.Logger
	dialer  *subconn.Dialer
	single  bool // one server, not a Cluster

	listening atomic.Bool
	heard     announcements
}

// Listening reports whether the control channel is subscribed.
func (c *Control) Listening() bool { return c.listening.Load() }

// NewControl returns a Control that passes what it hears to a Keeper. The client is for one server,
// Sentinel or a Cluster, with ContextTimeoutEnabled. The caller closes it.
func NewControl(client redis.Cmdable, keys keyspace.Keyspace, k *Keeper, o ControlOptions) *Control {
	dialer := subconn.NewDialer(client, nil)
	return &Control{
		client: client, keys: keys, channel: keys.Control(), opt: o, keeper: k, log: k.log.Named("control"),
		dialer: dialer, single: !dialer.Cluster(),
	}
}

// Run listens until ctx ends, and then returns nil. It survives every failure of Redis.
func (c *Control) Run(ctx context.Context) error {
	o := redislink.Options{
		Publish: func(ctx context.Context, channel, payload string) error {
			return c.client.Publish(ctx, channel, payload).Err()
		},
		Interval: c.opt.Interval, Timeout: c.opt.Timeout, Strict: true, AnyRole: !c.single,
		Log: c.log, LogInterval: logInterval, Lost: "control connection lost",
		Reopened: c.keeper.metrics.reconnects.Inc,
	}
	if c.single {
		o.Others = c.dialer
	}
	redislink.Keep(ctx, o, c.connect)
	return nil
}

// connect returns the settings of the next connection. In a Cluster, every server carries the
// control channel, and the client goes to the master of the first name's slot. The first name is
// the canary channel, which is different each time. So nodes spread over the masters, and do not
// keep waiting for one that does not answer.
func (c *Control) connect(context.Context) (redislink.Connection, redislink.User, error) {
	return redislink.Connection{
		Dialer: c.dialer, Subscribe: "subscribe", Canary: c.keys.Canary("control-" + rand.Text()), Channels: []string{c.channel},
	}, &listener{control: c}, nil
}

// listener uses one connection to the control channel.
type listener struct {
	control *Control
	opened  bool
}

var _ redislink.User = (*listener)(nil)

// Opened implements [redislink.User]. Announcements before this point may be lost. Later ones are
// heard.
func (l *listener) Opened(*redislink.Link, func(func(ctx context.Context) error)) {
	l.opened = true
	l.control.keeper.Missed()
	l.control.keeper.metrics.up.Set(1)
	l.control.listening.Store(true)
}

// Closed implements [redislink.User].
func (l *listener) Closed() {
	if l.opened {
		l.control.listening.Store(false)
		l.control.keeper.metrics.up.Set(0)
	}
}

// Message implements [redislink.User].
func (l *listener) Message(m *redis.Message, _ time.Time) {
	if m.Channel == l.control.channel {
		l.control.hear(m.Payload)
	}
}

// Subscription implements [redislink.User]. No change was requested.
func (l *listener) Subscription(m *redis.Subscription, _ time.Time) error {
	return fmt.Errorf("%w: %s", redislink.ErrUnexpected, m.Kind)
}

// Refused implements [redislink.User]. No command that Redis may refuse is in progress.
func (l *listener) Refused(error, time.Time) bool { return false }

// UnconfirmedSince implements [redislink.User].
func (l *listener) UnconfirmedSince() time.Time { return time.Time{} }

// hear handles a message from the control channel.
func (c *Control) hear(payload string) {
	m, err := Decode([]byte(payload))
	switch {
	case errors.Is(err, ErrUnknownType): // from a newer version
		c.keeper.metrics.messages.WithLabelValues(labelUnknown).Inc()
	case err != nil:
		c.keeper.metrics.messages.WithLabelValues(labelMalformed).Inc()
		c.log.Warn("control message ignored", zap.Error(err))
	default:
		n := c.keeper.Apply(m)
		c.heard.add(m, time.Now(), n)
		c.log.Info("control message", zap.String("type", string(m.Type)), zap.Int("connections", n),
			zap.String("user_id", m.UserID), zap.Stringer("organization_id", m.Organization), zap.String("session_id", m.SessionID))
	}
}

// String is for tests.
func (m Message) String() string {
	b, err := m.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
