package tail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/event"
)

const (
	// silence is how long a connection may be quiet until it is asked for a sign of life, and how long
	// that may take.
	silence = 2 * time.Second
	// retryPause is the pause before another connection is opened.
	retryPause = 500 * time.Millisecond
)

var (
	errSilent       = errors.New("tail: Redis does not answer")
	errUnsubscribed = errors.New("tail: Redis ended a subscription")
)

// hear puts what is published into lines until ctx ends. It survives every failure of Redis.
func (t *Tails) hear(ctx context.Context, q Query, lines *queue) error {
	for told := false; ; {
		l := &link{tails: t, query: q, lines: lines, opened: make(chan struct{})}
		err := l.run(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if told = told && !l.followed.Load(); !told { // once for each outage
			lines.put(Line{Kind: KindInterrupted, Time: time.Now().UTC(), Reason: err.Error()})
			told = true
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// link is one connection, from its opening to its loss.
type link struct {
	tails *Tails
	query Query
	lines *queue
	conn  *redis.PubSub
	// opened is closed by subscribe when the connection leads to the right server of a Cluster.
	opened chan struct{}
	// wanted counts the groups that are subscribed, or about to be. more says that there are others.
	wanted atomic.Int64
	more   atomic.Bool
	// followed is set once the reader was told what is followed.
	followed atomic.Bool
}

// run uses the connection until it breaks or ctx ends, and returns why.
func (l *link) run(ctx context.Context) error {
	l.conn = l.tails.open(ctx) // without a channel, nothing is opened
	running, ctx := errgroup.WithContext(ctx)
	// While the library reads, it ignores the end of a context. Only closing ends the read.
	running.Go(func() error {
		<-ctx.Done()
		_ = l.conn.Close() // it fails only if it is closed already
		return context.Cause(ctx)
	})
	running.Go(func() error { return l.subscribe(ctx) })
	running.Go(func() error { return l.receive(ctx) })
	return running.Wait()
}

// subscribe subscribes to the groups that there are, and then to those that appear, until ctx ends.
func (l *link) subscribe(ctx context.Context) error {
	known := make(map[string]bool) // by channel
	for first := true; ; first = false {
		channels, err := l.find(ctx, known)
		switch {
		case err != nil && first:
			l.tails.log.Warn("cannot list groups", zap.Error(err)) // a node is busy; it is asked again
		case err == nil && first && len(channels) == 0:
			l.follows()
		case len(channels) > 0:
			l.wanted.Add(int64(len(channels)))
			if err := l.send(ctx, channels); err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
			if len(known) == len(channels) {
				close(l.opened)
			}
		}
		if l.query.Group != "" {
			return nil
		}
		select {
		case <-time.After(refreshInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// find returns the channels of groups that are not known yet, and adds them to the known ones.
func (l *link) find(ctx context.Context, known map[string]bool) (channels []string, err error) {
	names := []string{l.query.Group}
	if l.query.Group == "" {
		var more bool
		if names, more, err = l.tails.opt.Groups(ctx, l.query.Organization, MaxGroups); err != nil {
			return nil, err
		}
		l.more.Store(more)
	}
	for _, name := range names {
		g, err := event.NewGroup(l.query.Organization, name)
		if err != nil {
			return nil, err
		}
		channel := l.tails.keys.GroupChannel(g)
		switch {
		case known[channel]:
		case len(known) == MaxGroups:
			l.more.Store(true)
		default:
			known[channel] = true
			channels = append(channels, channel)
		}
	}
	return channels, nil
}

// send writes one command for the channels. All are in one slot of a Cluster.
func (l *link) send(ctx context.Context, channels []string) error {
	if l.tails.sharded {
		return l.conn.SSubscribe(ctx, channels...)
	}
	return l.conn.Subscribe(ctx, channels...)
}

// follows tells the reader what is followed.
func (l *link) follows() {
	l.followed.Store(true)
	l.lines.put(Line{Kind: KindFollowing, Time: time.Now().UTC(), Groups: int(l.wanted.Load()), More: l.more.Load()})
}

// receive puts what arrives into lines until the connection fails.
func (l *link) receive(ctx context.Context) error {
	select {
	case <-l.opened:
	case <-ctx.Done():
		return nil
	}
	confirmed, asked := int64(0), false
	for {
		received, err := l.conn.ReceiveTimeout(ctx, silence)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			if asked {
				return errSilent
			}
			asked = true
			if err := l.conn.Ping(ctx); err != nil {
				return fmt.Errorf("ask for a sign of life: %w", err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		asked = false
		switch m := received.(type) {
		case *redis.Subscription:
			if m.Kind != "subscribe" && m.Kind != "ssubscribe" {
				return errUnsubscribed // the slot has moved
			}
			if confirmed++; confirmed == l.wanted.Load() {
				l.follows()
			}
		case *redis.Message:
			if g, ok := l.tails.keys.ParseGroupChannel(m.Channel); ok && g.Organization() == l.query.Organization {
				l.lines.put(l.tails.lineOf(l.query, g, m.Payload, time.Now()))
			}
		}
	}
}
