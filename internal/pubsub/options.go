package pubsub

import (
	"crypto/rand"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/redislink"
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

// Options of [NewRedis]. The zero Options work.
type Options struct {
	// NodeID names this node's canary channel. Default: random. Two nodes of one name do no harm.
	NodeID string
	// MaxEventSize is the largest payload accepted and published, in bytes.
	// Default: event.DefaultMaxSize.
	MaxEventSize int
	// CanaryInterval is the mean pause between two canaries. Default: [redislink.DefaultInterval].
	CanaryInterval time.Duration
	// LinkTimeout is how long a canary, a confirmation, any sign of life at all, opening the link
	// and each write to it may take before the link is given up. Default:
	// [redislink.DefaultTimeout]. A short one makes gaps where there was only a delay.
	LinkTimeout time.Duration
	// SubscribeTimeout bounds Subscribe, as its context does. Default: 5 s.
	SubscribeTimeout time.Duration
	// PublishTimeout bounds Publish, Record and PublishAll, as their context does. Default: 2 s.
	PublishTimeout time.Duration
	// HistoryTimeout bounds each question to a history, as its context does. A history that takes
	// many is read for up to five times as long. Default: 2 s.
	HistoryTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause before a lost link is opened again; it doubles
	// from one to the other and is jittered. Default: [redislink.DefaultMinBackoff] and
	// [redislink.DefaultMaxBackoff].
	MinBackoff, MaxBackoff time.Duration
	// EventsPerSecond and BytesPerSecond are what this node takes of one organization in the long
	// run; a quarter of it may come at once. Groups of an organization that exceeds either
	// are paused, see the package comment. Default: [DefaultEventsPerSecond] and
	// [DefaultBytesPerSecond]; negative: no limit.
	EventsPerSecond float64
	BytesPerSecond  int64
	// Log takes losses of the link, paused groups and dropped payloads, never their content.
	// Default: none.
	Log *zap.Logger
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.NodeID == "" {
		o.NodeID = rand.Text()
	}
	if o.MaxEventSize == 0 {
		o.MaxEventSize = event.DefaultMaxSize
	}
	for value, fallback := range map[*time.Duration]time.Duration{
		&o.CanaryInterval:   redislink.DefaultInterval,
		&o.LinkTimeout:      redislink.DefaultTimeout,
		&o.SubscribeTimeout: defaultSubscribeTimeout,
		&o.PublishTimeout:   defaultPublishTimeout,
		&o.HistoryTimeout:   defaultHistoryTimeout,
		&o.MinBackoff:       redislink.DefaultMinBackoff,
		&o.MaxBackoff:       redislink.DefaultMaxBackoff,
	} {
		if *value == 0 {
			*value = fallback
		}
	}
	if o.EventsPerSecond == 0 {
		o.EventsPerSecond = DefaultEventsPerSecond
	}
	if o.BytesPerSecond == 0 {
		o.BytesPerSecond = DefaultBytesPerSecond
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}
