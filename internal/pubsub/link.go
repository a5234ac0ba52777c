package pubsub

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/redislink"
	"orgcast/internal/subconn"
)

// resumeInterval is how often paused groups are looked at.
const resumeInterval = 50 * time.Millisecond

// link works on one subscription connection: it sends the commands that the subscriptions need,
// hands over what arrives, and has what was missed read.
type link struct {
	server    string // address of the Cluster's member that it leads to; "" if there is one server
	canary    string // the channel of its canaries when it is opened
	subs      *subscriptions
	histories *Histories
	delivery  *delivery
	timeout   time.Duration
	log       *zap.Logger

	// Of a link to a member of a Cluster: a client that has nothing but the link, and a function
	// that asks for a survey. nil otherwise.
	node   *redis.Client
	survey func()

	// Set when it is opened.
	redis *redislink.Link
	line  *line

	suspect bool // owned by the receiving goroutine: the server has taken channels away, and may be no master any more
}

var _ redislink.User = (*link)(nil)

// Opened implements [redislink.User].
func (l *link) Opened(opened *redislink.Link, work func(func(ctx context.Context) error)) {
	l.redis = opened
	l.line = l.subs.attach(l.server, l.canary, opened)
	work(l.reconcile)
	work(func(ctx context.Context) error {
		c := &catcher{subs: l.subs, histories: l.histories, delivery: l.delivery, line: l.line, log: l.log}
		c.run(ctx)
		return nil
	})
}

// Closed implements [redislink.User].
func (l *link) Closed() {
	if l.line != nil {
		l.subs.detach(l.line)
	}
	if l.node != nil {
		_ = l.node.Close() // its connection is closed
	}
}

// reconcile sends the commands that bring the link in line with what is wanted, until ctx ends or
// a write fails.
func (l *link) reconcile(ctx context.Context) error {
	ticker := time.NewTicker(resumeInterval)
	defer ticker.Stop()
	for {
		commands, unlocated, paused := l.subs.next(l.line)
		if len(commands) == 0 {
			var tick <-chan time.Time
			if paused {
				tick = ticker.C
			}
			select {
			case <-l.line.write:
			case <-tick:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		l.locate(ctx, unlocated)
		for _, c := range commands {
			if err := l.redis.Send(ctx, c.Kind, c.Channels); err != nil {
				return err
			}
		}
	}
}

// locate reads where the histories of groups end, before these are subscribed.
// Where that fails, losses of the group will be gaps.
func (l *link) locate(ctx context.Context, groups []event.Group) {
	if len(groups) == 0 {
		return
	}
	// Confirmations must not look overdue for it.
	ctx, cancel := context.WithTimeout(ctx, l.timeout/2)
	defer cancel()
	marks, known := l.histories.marks(ctx, groups)
	l.subs.locate(groups, marks, known)
}

// check is called for everything that arrives from a member of a Cluster. Once a server has taken
// channels away, it has to say that it is a master before anything else that it brings counts: a
// replica brings most of the events.
func (l *link) check(ctx context.Context, received any) error {
	if !l.suspect {
		return nil
	}
	if m, ok := received.(*redis.Subscription); ok && m.Kind == subscribedOff {
		return nil
	}
	if err := l.mustLead(ctx); err != nil {
		return err
	}
	l.suspect = false
	return nil
}

// subscribedOff is how a member of a Cluster says that it has taken a channel away.
const subscribedOff = "sunsubscribe"

// mustLead returns an error unless the server, a member of a Cluster, says at once that it is a
// master.
func (l *link) mustLead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	info, err := l.node.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("role of the server: %w", err)
	}
	if !strings.Contains(info, "role:master") {
		return subconn.ErrReplica
	}
	return nil
}

// Message implements [redislink.User].
func (l *link) Message(m *redis.Message, now time.Time) {
	head, object := event.CutHead(m.Payload)
	g, v := l.subs.judge(l.line, m.Channel, head, object, now)
	switch v {
	case roster.Deliver:
		l.deliver(g, head, object, now)
	case roster.Lost:
		l.delivery.gap(g)
		l.deliver(g, head, object, now)
	case roster.Hold, roster.Known:
	case roster.Denied:
		l.delivery.gap(g)
		l.delivery.metrics.repeated.Inc()
	case roster.Repeated:
		l.delivery.metrics.repeated.Inc()
	case roster.Unwanted:
		l.delivery.metrics.unwanted.Inc()
	case roster.Pause:
		l.delivery.metrics.shed.Inc()
		if suppressed, ok := l.subs.logPause(g, now); ok {
			l.log.Warn("organization over its event rate, group paused", zap.Stringer("group", g), zap.Int("suppressed", suppressed))
		}
	case roster.Shed:
		l.delivery.metrics.shed.Inc()
	}
}

// deliver decodes an event and hands it over, or logs why it is dropped: for each reason and
// organization, since one that publishes nothing else must not hide what is wrong with another's.
// The log bounds that, and the organization's budget bounds what it costs here.
func (l *link) deliver(g event.Group, h event.Head, object string, now time.Time) {
	e, err := l.histories.decoder.decode(g, h, object, now)
	if err != nil {
		l.histories.decoder.logDropped(g, err)
		return
	}
	l.delivery.deliver(e)
}

// Subscription implements [redislink.User].
func (l *link) Subscription(m *redis.Subscription, now time.Time) error {
	c, canary, ok := l.subs.confirm(l.line, m.Kind, m.Channel, now)
	switch {
	case !ok:
		return fmt.Errorf("%w: %s", redislink.ErrUnexpected, m.Kind)
	case c.SlotLost:
		l.suspect = true
		l.survey()
	}
	if c.Canary {
		l.redis.SetCanary(canary, !c.SlotLost) // those under way went to the slot's new owner
	}
	if !c.Gap.IsZero() {
		l.delivery.gap(c.Gap)
	}
	return nil
}

// Refused implements [redislink.User]: a member of a Cluster does not have the slot of a command,
// or not at present.
func (l *link) Refused(err error, now time.Time) bool {
	owner, moved := redis.IsMovedError(err)
	_, asked := redis.IsAskError(err)
	if l.node == nil || !moved && !asked && !redis.IsClusterDownError(err) && !redis.IsTryAgainError(err) {
		return false
	}
	if !moved || strings.HasPrefix(owner, ":") {
		owner = "" // it does not know that server's address itself
	}
	if !l.subs.refuse(l.line, owner, now) {
		return false
	}
	l.survey()
	return true
}

// UnconfirmedSince implements [redislink.User].
func (l *link) UnconfirmedSince() time.Time { return l.subs.unconfirmedSince(l.line) }
