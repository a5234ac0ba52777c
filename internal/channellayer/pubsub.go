package channellayer

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/channellayer/wire"
	"orgcast/internal/redislink"
)

// commandGroups is how many groups one command names at most, so that Redis answers others
// meanwhile.
const commandGroups = 256

// canaryPrefix begins the names of the groups on which nodes send to themselves. They are groups so
// that the Redis user needs no further permission.
const canaryPrefix = "orgcast.canary."

// runPubSub keeps a subscription connection to the server until ctx ends.
func (h *host) runPubSub(ctx context.Context) {
	canary := wire.PubSubChannel(h.opt.Prefix, canaryPrefix+rand.Text())
	o := redislink.Options{
		Publish: func(ctx context.Context, channel, payload string) error {
			return h.client.Publish(ctx, channel, payload).Err()
		},
		Timeout: h.opt.LinkTimeout, Others: h.dialer,
		Log: h.opt.Log, Lost: "channel layer connection lost", Reopened: h.metrics.reconnects.Inc,
	}
	redislink.Keep(ctx, o, func(context.Context) (redislink.Connection, redislink.User, error) {
		return redislink.Connection{Dialer: h.dialer, Subscribe: "subscribe", Canary: canary}, &subscriber{host: h}, nil
	})
}

// subscriber uses one subscription connection.
type subscriber struct {
	host *host
	link *redislink.Link
}

var _ redislink.User = (*subscriber)(nil)

// Opened implements [redislink.User].
func (s *subscriber) Opened(link *redislink.Link, work func(func(ctx context.Context) error)) {
	s.link = link
	healthy := func() error {
		if link.Healthy(time.Now()) != nil {
			return ErrNoLink
		}
		return nil
	}
	s.host.open.Store(&healthy)
	s.host.groups.begin()
	work(s.subscribe)
}

// subscribe sends the commands that the groups need, until ctx ends or a write fails.
func (s *subscriber) subscribe(ctx context.Context) error {
	groups := s.host.groups
	for {
		join, leave := groups.next(commandGroups)
		if len(join)+len(leave) == 0 {
			select {
			case <-groups.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if err := s.link.Send(ctx, "subscribe", s.channels(join)); err != nil {
			return err
		}
		if err := s.link.Send(ctx, "unsubscribe", s.channels(leave)); err != nil {
			return err
		}
	}
}

func (s *subscriber) channels(list []command) []string {
	channels := make([]string, len(list))
	for i, c := range list {
		channels[i] = wire.PubSubChannel(s.host.opt.Prefix, c.name)
	}
	return channels
}

// Message implements [redislink.User].
func (s *subscriber) Message(m *redis.Message, now time.Time) {
	if name, ok := s.group(m.Channel); ok {
		s.host.intake.pubsub(s.host.groups, name, []byte(m.Payload), now)
	}
}

// Subscription implements [redislink.User].
func (s *subscriber) Subscription(m *redis.Subscription, _ time.Time) error {
	name, ok := s.group(m.Channel)
	switch {
	case ok && m.Kind == "subscribe":
		gaps, ok := s.host.groups.joined(name)
		if !ok {
			break
		}
		s.host.intake.gaps(gaps)
		return nil
	case ok && m.Kind == "unsubscribe" && s.host.groups.left(name):
		return nil
	}
	return fmt.Errorf("%w: %s", redislink.ErrUnexpected, m.Kind)
}

// group returns the group of a Redis channel.
func (s *subscriber) group(channel string) (name string, ok bool) {
	return strings.CutPrefix(channel, wire.GroupChannels(s.host.opt.Prefix))
}

// Refused implements [redislink.User].
func (*subscriber) Refused(error, time.Time) bool { return false }

// UnconfirmedSince implements [redislink.User].
func (s *subscriber) UnconfirmedSince() time.Time { return s.host.groups.unconfirmedSince() }

// Closed implements [redislink.User].
func (s *subscriber) Closed() {
	s.host.open.Store(nil)
	s.host.groups.end()
}
