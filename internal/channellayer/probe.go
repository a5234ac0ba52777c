package channellayer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/channellayer/wire"
)

const (
	// probeTime is how long a probe listens for messages.
	probeTime = time.Second
	// probeKeys is how many keys of Redis a probe looks at, at least, if there are as many.
	probeKeys = 20000
	// probeQueues is how many queues of Django processes a probe looks into, and probeMessages how
	// many messages it reads of each.
	probeQueues, probeMessages = 100, 3
)

// ErrUnreadable says that a probe found a message that cannot be read.
var ErrUnreadable = errors.New("a message of the site cannot be read")

// Probe looks at what is in Redis for signs that the options do not fit the site: messages that
// cannot be read, and groups with another prefix only. It takes nothing away. It returns nil if
// there is no such sign, which is also so if nothing is to be seen, or if the Redis user must not
// look.
func (l *Layer) Probe(ctx context.Context) error {
	err := l.probe(ctx)
	if redis.HasErrorPrefix(err, "NOPERM") {
		return nil
	}
	return err
}

func (l *Layer) probe(ctx context.Context) error {
	prefixes := make(map[string]bool)
	queues := make([][]string, len(l.hosts))
	for i, h := range l.hosts {
		var err error
		if l.opt.Kind == PubSub {
			err = h.findChannels(ctx, prefixes)
		} else {
			queues[i], err = h.findQueues(ctx, prefixes)
		}
		if err != nil {
			return err
		}
	}
	if err := l.judge(prefixes); err != nil {
		return err
	}
	looking, ctx := errgroup.WithContext(ctx)
	for i, h := range l.hosts {
		looking.Go(func() error {
			if l.opt.Kind == PubSub {
				return h.listen(ctx)
			}
			return h.lookInto(ctx, queues[i])
		})
	}
	return looking.Wait()
}

// findChannels adds the prefixes of groups that have members.
func (h *host) findChannels(ctx context.Context, prefixes map[string]bool) error {
	channels, err := h.client.PubSubChannels(ctx, wire.GroupChannels("*")+"*").Result()
	if err != nil {
		return err
	}
	for _, channel := range channels {
		if prefix, name, ok := strings.Cut(channel, wire.GroupChannels("")); ok && !strings.HasPrefix(name, canaryPrefix) {
			prefixes[prefix] = true
		}
	}
	return nil
}

// listen listens for a while to all groups.
func (h *host) listen(ctx context.Context) error {
	subscription := h.client.PSubscribe(ctx, wire.GroupChannels(escape(h.opt.Prefix))+"*")
	defer func() { _ = subscription.Close() }() // nothing was written
	decoder, limits := h.intake.reading()
	for until := time.Now().Add(probeTime); ; {
		received, err := subscription.ReceiveTimeout(ctx, max(time.Until(until), time.Millisecond))
		if err != nil {
			if redis.HasErrorPrefix(err, "NOPERM") {
				return nil
			}
			return ignoreTimeout(err)
		}
		m, ok := received.(*redis.Message)
		if !ok || strings.HasPrefix(m.Channel, wire.PubSubChannel(h.opt.Prefix, canaryPrefix)) {
			continue
		}
		if _, err := decoder.PubSub([]byte(m.Payload), limits.MaxEventSize); err != nil {
			return unreadable(err, decoder.Advice([]byte(m.Payload), false))
		}
	}
}

// ignoreTimeout returns nil for the end of the time in which a message could come.
func ignoreTimeout(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// escape makes a text match only itself in a pattern of Redis.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// findQueues adds the prefixes of groups, and returns queues of Django processes.
func (h *host) findQueues(ctx context.Context, prefixes map[string]bool) (queues []string, err error) {
	var cursor uint64
	for seen := 0; seen < probeKeys; {
		keys, next, err := h.client.ScanType(ctx, cursor, "*", 1000, "zset").Result()
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if prefix, _, ok := strings.Cut(key, wire.GroupKey("", "")); ok {
				prefixes[prefix] = true
			} else if strings.HasPrefix(key, wire.QueueKey(h.opt.Prefix, "specific.")) && len(queues) < probeQueues {
				queues = append(queues, key)
			}
		}
		seen += 1000
		if cursor = next; cursor == 0 {
			break
		}
	}
	return queues, nil
}

// lookInto reads some messages of queues.
func (h *host) lookInto(ctx context.Context, queues []string) error {
	decoder, limits := h.intake.reading()
	for _, key := range queues {
		members, err := h.client.ZRevRange(ctx, key, 0, probeMessages-1).Result() // the newest first, as tokens expire
		if err != nil {
			return err
		}
		for _, m := range members {
			if _, err := decoder.Core([]byte(m), limits.MaxEventSize, time.Now()); err != nil {
				return unreadable(err, decoder.Advice([]byte(m), true))
			}
		}
	}
	return nil
}

// judge returns an error if there are groups, but none with the prefix of the options.
func (l *Layer) judge(prefixes map[string]bool) error {
	if len(prefixes) == 0 || prefixes[l.opt.Prefix] {
		return nil
	}
	return fmt.Errorf("no group begins with --channel-layer-prefix %q, but groups begin with %q: is one of these the site's?",
		l.opt.Prefix, slices.Sorted(maps.Keys(prefixes)))
}

func unreadable(err error, advice string) error {
	if advice == "" {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return fmt.Errorf("%w: %w: %s", ErrUnreadable, err, advice)
}
