package presence

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/redislink"
)

// listen hears the channels of watched groups until ctx ends.
func (r *Room) listen(ctx context.Context) {
	o := redislink.Options{
		Publish: func(ctx context.Context, channel, payload string) error {
			return r.client.Publish(ctx, channel, payload).Err()
		},
		// In a Cluster, messages come from every member at every other.
		Strict: true, AnyRole: !r.single, Log: r.log, Lost: "presence channels lost",
	}
	redislink.Keep(ctx, o, func(context.Context) (redislink.Connection, redislink.User, error) {
		return redislink.Connection{Dialer: r.dialer, Subscribe: "subscribe", Canary: r.keys.Canary("presence-" + rand.Text())},
			&listener{room: r, asked: make(map[event.Group]bool), unanswered: make(map[string]int)}, nil
	})
}

// listener uses one connection.
type listener struct {
	room   *Room
	link   *redislink.Link
	opened bool

	mu         sync.Mutex
	asked      map[event.Group]bool // the groups whose channels are subscribed, or are about to be
	unanswered map[string]int       // SUBSCRIBE commands by channel
	sent       []time.Time          // when the unconfirmed commands were sent, for each channel
}

var _ redislink.User = (*listener)(nil)

// Opened implements [redislink.User]. Redis may have lost its data before.
func (l *listener) Opened(link *redislink.Link, work func(func(ctx context.Context) error)) {
	l.link, l.opened = link, true
	l.room.metrics.listening.Set(1)
	l.room.mu.Lock()
	l.room.machine.reconcile()
	for g, known := range l.room.machine.groups {
		if known.view != nil {
			l.room.machine.rewanted[g] = struct{}{}
		}
	}
	l.room.mu.Unlock()
	work(l.subscribe)
}

// subscribe subscribes and unsubscribes channels as groups begin and end to be watched.
func (l *listener) subscribe(ctx context.Context) error {
	for {
		if err := l.settle(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.room.wanted:
		}
	}
}

// settle sends what is missing.
func (l *listener) settle(ctx context.Context) error {
	wanted := make(map[event.Group]bool)
	m := l.room.machine
	l.room.mu.Lock()
	for g := range m.rewanted {
		wanted[g] = m.watched(m.groups[g])
	}
	clear(m.rewanted)
	l.room.mu.Unlock()
	commands := map[bool][]string{}
	l.mu.Lock()
	for g, want := range wanted {
		channel := l.room.keys.PresenceChannel(g)
		if want == l.asked[g] {
			if want { // it was left and watched again meanwhile
				commands[want] = append(commands[want], channel)
				l.unanswered[channel]++
				l.sent = append(l.sent, time.Now())
			}
			continue
		}
		commands[want] = append(commands[want], channel)
		l.sent = append(l.sent, time.Now())
		if want {
			l.asked[g] = true
			l.unanswered[channel]++
		} else {
			delete(l.asked, g)
		}
	}
	l.mu.Unlock()
	if err := l.link.Send(ctx, "unsubscribe", commands[false]); err != nil {
		return err
	}
	return l.link.Send(ctx, "subscribe", commands[true])
}

// Subscription implements [redislink.User].
func (l *listener) Subscription(s *redis.Subscription, _ time.Time) error {
	g, ok := l.room.keys.ParsePresenceChannel(s.Channel)
	l.mu.Lock()
	if !ok || len(l.sent) == 0 || s.Kind == "subscribe" && l.unanswered[s.Channel] == 0 {
		l.mu.Unlock()
		return fmt.Errorf("%w: %s", redislink.ErrUnexpected, s.Kind)
	}
	l.sent = l.sent[1:]
	confirmed := false
	if s.Kind == "subscribe" {
		if l.unanswered[s.Channel]--; l.unanswered[s.Channel] == 0 {
			delete(l.unanswered, s.Channel)
			confirmed = l.asked[g]
		}
	}
	l.mu.Unlock()
	if confirmed {
		l.room.mu.Lock()
		l.room.machine.confirmed(l.room.machine.groups[g])
		l.room.mu.Unlock()
	}
	return nil
}

// Message implements [redislink.User].
func (l *listener) Message(m *redis.Message, now time.Time) {
	r := l.room
	g, ok := r.keys.ParsePresenceChannel(m.Channel)
	if !ok {
		return
	}
	d, err := decodeDiff(g, []byte(m.Payload))
	if err != nil {
		r.metrics.malformed.Inc()
		r.log.Warn("presence message ignored", zap.Stringer("group", g), zap.Error(err))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine.receive(r.machine.groups[g], d, now)
}

// Refused implements [redislink.User]. Without the right to the channels, the link is of no use.
func (l *listener) Refused(error, time.Time) bool { return false }

// UnconfirmedSince implements [redislink.User].
func (l *listener) UnconfirmedSince() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sent) == 0 {
		return time.Time{}
	}
	return l.sent[0]
}

// Closed implements [redislink.User].
func (l *listener) Closed() {
	if !l.opened {
		return
	}
	l.room.metrics.listening.Set(0)
	l.room.mu.Lock()
	l.room.machine.lost()
	l.room.mu.Unlock()
}
