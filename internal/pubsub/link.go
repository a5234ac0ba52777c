package pubsub

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/redislink"
	"orgcast/internal/subconn"
	"orgcast/internal/trail"
)

// resumeInterval is how often a link checks whether paused groups can resume.
const resumeInterval = 50 * time.Millisecond

// link runs one subscription connection. It sends the commands that the subscriptions need,
// delivers messages, and reads missed events.
type link struct {
	server    string // address of the server in a Cluster; "" without a Cluster
	canary    string // the canary channel at the time of opening
	subs      *subscriptions
	histories *Histories
	delivery  *delivery
	timeout   time.Duration
	log       *zap.Logger

	// Only in a Cluster: the client that the link uses alone, and a function that requests a
	// survey.
	node   *redis.Client
	survey func()

	// Set when the link is opened.
	redis *redislink.Link
	line  *line

	suspect bool // the server took channels away and may not be a master; owned by the receiver
}

var _ redislink.User = (*link)(nil)

// Opened implements [redislink.User].
func (l *link) Opened(opened *redislink.Link, work func(func(ctx context.Context) error)) {
	l.redis = opened
	l.line = l.subs.attach(l.server, l.canary, opened)
	l.delivery.trail.LinkOpened(l.server)
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
		_ = l.node.Close() // its connection is closed already
	}
}

// reconcile sends the commands that the subscriptions need, until ctx ends or a write fails.
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
				runtime.Gosched() // groups of goroutines that only wait for the processor go along
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

// locate reads the newest positions of groups before they are subscribed. If that fails, the groups
// get gaps when they lose events, until a recorded event arrives.
func (l *link) locate(ctx context.Context, groups []event.Group) {
	if len(groups) == 0 {
		return
	}
	// This must not make confirmations look overdue.
	ctx, cancel := context.WithTimeout(ctx, l.timeout/2)
	defer cancel()
	marks, known := l.histories.marks(ctx, groups)
	l.subs.locate(groups, marks, known)
}

// check is called for everything that arrives from a server of a Cluster. After a server has taken
// channels away, it must prove that it is a master before anything else from it counts, because a
// replica passes on only most of the events.
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

// subscribedOff is the kind of notice by which a Cluster's server takes a channel away.
const subscribedOff = "sunsubscribe"

// mustLead returns an error unless the server, one of a Cluster, says in time that it is a master.
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
		l.delivery.gap(g, gapReason(v))
		l.deliver(g, head, object, now)
	case roster.Hold, roster.Known:
	case roster.Denied:
		l.delivery.gap(g, gapReason(v))
		l.delivery.metrics.repeated.Inc()
		l.delivery.trail.Dropped(g, head.Position, trail.DropRepeated)
	case roster.Repeated:
		l.delivery.metrics.repeated.Inc()
		l.delivery.trail.Dropped(g, head.Position, trail.DropRepeated)
	case roster.Unwanted:
		l.delivery.metrics.unwanted.Inc()
		l.delivery.trail.Dropped(g, head.Position, trail.DropUnwanted)
	case roster.Pause:
		l.delivery.metrics.shed.Inc()
		l.delivery.trail.Dropped(g, head.Position, trail.DropRate)
		if suppressed, ok := l.subs.logPause(g, now); ok {
			l.log.Warn("organization over its event rate, group paused", zap.Stringer("group", g), zap.Int("suppressed", suppressed))
		}
	case roster.Shed:
		l.delivery.metrics.shed.Inc()
		l.delivery.trail.Dropped(g, head.Position, trail.DropRate)
	}
}

// deliver decodes an event and delivers it, or logs why it is dropped. The log samples these lines
// for each reason and organization, so that an organization that only publishes invalid events does
// not hide the lines of another. The organization's budget bounds the work here.
func (l *link) deliver(g event.Group, h event.Head, object string, now time.Time) {
	e, err := l.histories.decoder.decode(g, h, object, now)
	if err != nil {
		l.histories.decoder.logDropped(g, err)
		l.delivery.trail.Dropped(g, h.Position, event.Reason(err))
		return
	}
	l.delivery.tracer.Watch(e, h.Trace)
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
		l.redis.SetCanary(canary, !c.SlotLost) // canaries in progress went to the slot's new owner
	}
	if !c.Gap.IsZero() {
		l.delivery.gap(c.Gap, trail.GapUnlocated)
	}
	return nil
}

// Refused implements [redislink.User]: a server of a Cluster does not have the slot of a command,
// or not at present.
func (l *link) Refused(err error, now time.Time) bool {
	owner, moved := redis.IsMovedError(err)
	_, asked := redis.IsAskError(err)
	if l.node == nil || !moved && !asked && !redis.IsClusterDownError(err) && !redis.IsTryAgainError(err) {
		return false
	}
	if !moved || strings.HasPrefix(owner, ":") {
		owner = "" // the server does not know the owner's address
	}
	if !l.subs.refuse(l.line, owner, now) {
		return false
	}
	l.survey()
	return true
}

// UnconfirmedSince implements [redislink.User].
func (l *link) UnconfirmedSince() time.Time { return l.subs.unconfirmedSince(l.line) }
