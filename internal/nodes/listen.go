package nodes

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redislink"
)

const (
	// linkInterval and linkTimeout of the subscription are longer than those of subscriptions that
	// carry events: a question that gets lost shows as a silent node, and can be asked again.
	linkInterval = 5 * time.Second
	linkTimeout  = 12 * time.Second
)

// listen hears questions until ctx ends. It has its own connection, so that a Redis user without the
// right to it loses nothing but the answers of this node.
func (n *Nodes) listen(ctx context.Context) {
	o := redislink.Options{
		Publish: func(ctx context.Context, channel, payload string) error {
			return n.client.Publish(ctx, channel, payload).Err()
		},
		Interval: linkInterval, Timeout: linkTimeout, Strict: true, AnyRole: !n.single,
		Log: n.log, LogInterval: linkTimeout, Lost: "question channel lost",
	}
	redislink.Keep(ctx, o, func(context.Context) (redislink.Connection, redislink.User, error) {
		// In a Cluster, the client goes to the master of the first name's slot, a different one each
		// time, and every member passes on what is published at any other.
		return redislink.Connection{
			Dialer: n.dialer, Subscribe: "subscribe", Canary: n.keys.Canary("nodes-" + rand.Text()), Channels: []string{n.keys.Questions()},
		}, &listener{nodes: n}, nil
	})
}

// listener uses one connection.
type listener struct {
	nodes  *Nodes
	opened bool
}

var _ redislink.User = (*listener)(nil)

// Opened implements [redislink.User].
func (l *listener) Opened(*redislink.Link, func(func(ctx context.Context) error)) {
	l.opened = true
	l.nodes.metrics.listening.Set(1)
}

// Closed implements [redislink.User].
func (l *listener) Closed() {
	if l.opened {
		l.nodes.metrics.listening.Set(0)
	}
}

// Message implements [redislink.User].
func (l *listener) Message(m *redis.Message, _ time.Time) {
	if m.Channel == l.nodes.keys.Questions() {
		l.nodes.hear(m.Payload)
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
