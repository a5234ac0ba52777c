package channellayer

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/loglimit"
	"orgcast/internal/orgctx"
	"orgcast/internal/trail"
)

const (
	// settleInterval is how often groups are looked at that are owed a gap.
	settleInterval = 250 * time.Millisecond
	// unreadableInterval is the shortest time between two log lines about messages that cannot be
	// read for the same reason.
	unreadableInterval = 10 * time.Second
	// maxHints bounds the log lines about events without an organization.
	maxHints = 1000
)

// Reasons of orgcast_channel_layer_dropped_total in addition to those of packages wire and event.
const (
	reasonRate     = "organization_rate" // its organization sends more than its share
	reasonUnwanted = "unwanted"          // no member of its organization is in the group here
)

// hint is what a log line about an event without an organization is about.
type hint struct{ group, typ string }

// intake takes messages of groups, and passes those that are events of an organization to the Sink.
type intake struct {
	budgets *budgets
	core    bool
	log     *zap.Logger
	metrics *metrics
	trail   *trail.Trail

	mu         sync.Mutex
	sink       Sink
	decoder    *wire.Decoder
	limits     Limits
	hinted     map[hint]struct{}
	unreadable map[string]*loglimit.Limiter // by reason
}

func newIntake(o Options, b *budgets, m *metrics) *intake {
	return &intake{
		budgets: b, core: o.Kind == Core, decoder: o.Decoder, log: o.Log, metrics: m, trail: o.Trail, limits: o.Limits,
		hinted: make(map[hint]struct{}), unreadable: make(map[string]*loglimit.Limiter),
	}
}

func (i *intake) change(d *wire.Decoder, l Limits) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.decoder, i.limits = d, l
}

func (i *intake) begin(sink Sink) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sink = sink
}

// receiver returns who takes events now, and how much.
func (i *intake) receiver() (Sink, Limits) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sink, i.limits
}

// reading returns how messages are read now.
func (i *intake) reading() (*wire.Decoder, Limits) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.decoder, i.limits
}

// pubsub takes a payload of the pub/sub layer. of are the groups of the server that it came from.
func (i *intake) pubsub(of *groups, name string, payload []byte, now time.Time) {
	decoder, limits := i.reading()
	i.metrics.received.Inc()
	m, err := decoder.PubSub(payload, limits.MaxEventSize)
	if err != nil {
		i.unread(decoder, payload, err, now)
		return
	}
	i.deliver(of, name, m, now)
}

// queued takes a member of a queue of the core layer. of are the groups of the server, and named returns the group of a receiver.
func (i *intake) queued(of *groups, member []byte, named func(receiver string) (name string, ok bool), now time.Time) {
	decoder, limits := i.reading()
	i.metrics.received.Inc()
	m, err := decoder.Core(member, limits.MaxEventSize, now)
	if err != nil {
		i.unread(decoder, member, err, now)
		return
	}
	for _, receiver := range m.Receivers {
		if name, ok := named(receiver); ok {
			i.deliver(of, name, m, now)
		}
	}
}

// deliver passes a message to the organization that it names, if that wants the group.
func (i *intake) deliver(of *groups, name string, m wire.Message, now time.Time) {
	sink, limits := i.receiver()
	org, err := orgctx.ParseID(m.Organization)
	if err != nil {
		i.metrics.drop(event.Reason(event.ErrNoOrganization))
		i.hint(name, m.Type)
		return
	}
	g, ok := of.find(org, name)
	if !ok {
		i.metrics.drop(reasonUnwanted)
		return
	}
	// The bytes that go on are read once more, and must name the organization of the group.
	e, err := event.DecodeObject(g, event.Head{}, string(m.Object), limits.MaxEventSize, now)
	if err != nil {
		reason := event.Reason(err)
		i.metrics.drop(reason)
		i.trail.Dropped(g, event.Position{}, reason)
		if suppressed, log := i.mayLog(reason, now); log {
			i.log.Warn("event dropped", zap.Stringer("group", g), zap.String("reason", reason), zap.Int("suppressed", suppressed))
		}
		return
	}
	gaps, ok, log, suppressed := i.budgets.spend(g, e.Size(), limits, now)
	if !ok {
		i.metrics.drop(reasonRate)
		i.trail.Dropped(g, event.Position{}, trail.DropRate)
		if log {
			i.log.Warn("organization over its event rate, events dropped", zap.Stringer("group", g), zap.Int("suppressed", suppressed))
		}
		return
	}
	i.gapsTo(sink, gaps)
	sink.Deliver(e)
}

// gaps tells groups that events may be lost.
func (i *intake) gaps(list []event.Group) {
	sink, _ := i.receiver()
	i.gapsTo(sink, list)
}

func (i *intake) gapsTo(sink Sink, list []event.Group) {
	for _, g := range list {
		i.metrics.gaps.Inc()
		i.trail.Gap(g, trail.GapChannelLayer)
		sink.Gap(g)
	}
}

// settle tells groups about events that were over their organization's budget, until ctx ends.
func (i *intake) settle(ctx context.Context) {
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		sink, limits := i.receiver()
		i.gapsTo(sink, i.budgets.settle(limits, time.Now()))
	}
}

// unread counts and logs a payload that is not a message.
func (i *intake) unread(d *wire.Decoder, payload []byte, err error, now time.Time) {
	reason := wire.Reason(err)
	i.metrics.drop(reason)
	if suppressed, log := i.mayLog(reason, now); log {
		i.log.Warn("channel layer message dropped", zap.String("reason", reason), zap.String("hint", d.Advice(payload, i.core)), zap.Int("suppressed", suppressed))
	}
}

// mayLog reports whether to log a drop for a reason.
func (i *intake) mayLog(reason string, now time.Time) (suppressed int, log bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.unreadable[reason]
	if l == nil {
		l = &loglimit.Limiter{Interval: unreadableInterval}
		i.unreadable[reason] = l
	}
	return l.Allow(now)
}

// hint logs once for each group and type that events lack an organization.
func (i *intake) hint(name, typ string) {
	if !event.ValidType(typ) {
		typ = ""
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	h := hint{name, typ}
	if _, done := i.hinted[h]; done || len(i.hinted) == maxHints {
		return
	}
	i.hinted[h] = struct{}{}
	i.log.Warn("event without organization dropped", zap.String("name", name), zap.String("type", typ),
		zap.String("hint", "add organization_id to what group_send gets"))
}
