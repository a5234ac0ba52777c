package pubsub

import (
	"cmp"
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/redislink"
	"orgcast/internal/tracing"
	"orgcast/internal/trail"
)

// Defaults of [Options].
const (
	defaultSubscribeTimeout = 5 * time.Second
	defaultPublishTimeout   = 2 * time.Second
	defaultHistoryTimeout   = 2 * time.Second

	// DefaultEventsPerSecond and DefaultBytesPerSecond are far above what people cause and far
	// below what a node can receive.
	DefaultEventsPerSecond = 20000
	DefaultBytesPerSecond  = 64 << 20
)

// Options are the options of [NewRedis]. The zero Options work.
type Options struct {
	// NodeID names this node's canary channel. Default: random. Two nodes may have the same name.
	NodeID string
	// MaxEventSize is the largest payload accepted and published, in bytes.
	// Default: event.DefaultMaxSize.
	MaxEventSize int
	// CanaryInterval is the mean pause between two canaries. Default: [redislink.DefaultInterval].
	CanaryInterval time.Duration
	// LinkTimeout is how long a canary, a confirmation, any sign of life, opening the link, and
	// each write may take before the link is dropped. Default: [redislink.DefaultTimeout]. A short
	// timeout causes gaps where there was only a delay.
	LinkTimeout time.Duration
	// SubscribeTimeout bounds Subscribe, as does its context. Default: 5 s.
	SubscribeTimeout time.Duration
	// PublishTimeout bounds Publish, Record and PublishAll, as does their context. Default: 2 s.
	PublishTimeout time.Duration
	// HistoryTimeout bounds each question to a history, as does its context. A history that takes
	// many questions may take up to five times as long. Default: 2 s.
	HistoryTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause before a lost link is opened again. The pause
	// doubles from one to the other and is jittered. Default: [redislink.DefaultMinBackoff] and
	// [redislink.DefaultMaxBackoff].
	MinBackoff, MaxBackoff time.Duration
	// EventsPerSecond and BytesPerSecond are what this node takes from one organization on average.
	// A quarter of a second's worth may come at once. If an organization exceeds either, its groups
	// are paused; see the package comment. Default: [DefaultEventsPerSecond] and
	// [DefaultBytesPerSecond]. A negative value means no limit.
	EventsPerSecond float64
	BytesPerSecond  int64
	// maxEvent is MaxEventSize, which [Redis.SetLimits] replaces for all parts at once.
	maxEvent *atomic.Int64
	// Log gets link losses, paused groups and dropped payloads, never payload content. Default:
	// none.
	Log *zap.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
	// Trail remembers dropped events, gaps and lost links. Default: none.
	Trail *trail.Trail
	// Tracer makes spans of what is published and of traced events that arrive. Default: none.
	Tracer *tracing.Tracer
}

func (o Options) withDefaults() Options {
	if o.NodeID == "" {
		o.NodeID = rand.Text()
	}
	o.MaxEventSize = cmp.Or(o.MaxEventSize, event.DefaultMaxSize)
	if o.maxEvent == nil {
		o.maxEvent = new(atomic.Int64)
		o.maxEvent.Store(int64(o.MaxEventSize))
	}
	o.CanaryInterval = cmp.Or(o.CanaryInterval, redislink.DefaultInterval)
	o.LinkTimeout = cmp.Or(o.LinkTimeout, redislink.DefaultTimeout)
	o.SubscribeTimeout = cmp.Or(o.SubscribeTimeout, defaultSubscribeTimeout)
	o.PublishTimeout = cmp.Or(o.PublishTimeout, defaultPublishTimeout)
	o.HistoryTimeout = cmp.Or(o.HistoryTimeout, defaultHistoryTimeout)
	o.MinBackoff = cmp.Or(o.MinBackoff, redislink.DefaultMinBackoff)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, redislink.DefaultMaxBackoff)
	o.EventsPerSecond = cmp.Or(o.EventsPerSecond, DefaultEventsPerSecond)
	o.BytesPerSecond = cmp.Or(o.BytesPerSecond, DefaultBytesPerSecond)
	o.Log = cmp.Or(o.Log, zap.NewNop())
	return o
}

// largest returns the size of the largest event for now, in bytes.
func (o Options) largest() int { return int(o.maxEvent.Load()) }

// Limits are those of [Options] that may change while events flow.
type Limits struct {
	MaxEventSize    int
	EventsPerSecond float64
	BytesPerSecond  int64
}

// SetLimits replaces the limits. Zero values mean the defaults, as in [Options].
func (r *Redis) SetLimits(l Limits) {
	o := Options{MaxEventSize: l.MaxEventSize, EventsPerSecond: l.EventsPerSecond, BytesPerSecond: l.BytesPerSecond}.withDefaults()
	r.opt.maxEvent.Store(int64(o.MaxEventSize))
	r.subs.setBudget(o.EventsPerSecond, o.BytesPerSecond)
}
