package webhook

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/event"
)

// Defaults of [RecorderOptions] and [DelivererOptions].
const (
	DefaultLinger   = 10 * time.Second
	DefaultBytes    = 16 << 20
	DefaultRetryFor = 24 * time.Hour
	DefaultTimeout  = 10 * time.Second
)

// RecorderOptions are the options of a [Recorder]. Zero values are replaced by defaults.
type RecorderOptions struct {
	// Types are the types that are wanted. Default: none.
	Types map[Type]bool
	// Groups are the groups that are told of. Default: none.
	Groups Patterns
	// Present reports whether a group has connections on this node. It must not block.
	Present func(g event.Group) bool
	// Targets say which organizations have receivers.
	Targets *Targets
	// Linger is how long a group stays occupied after its last connection has left. Default
	// [DefaultLinger].
	Linger time.Duration
	// Bytes bounds what waits in Redis for one organization. Default [DefaultBytes].
	Bytes int
	// Beat is how often a node says that it lives, and Dead the silence after which it does not.
	// Default 5 s and 15 s, or Linger if that is longer.
	Beat, Dead time.Duration

	Log        *zap.Logger           // may be nil
	Registerer prometheus.Registerer // may be nil
}

func (o RecorderOptions) withDefaults() RecorderOptions {
	o.Linger = cmp.Or(o.Linger, DefaultLinger)
	o.Bytes = cmp.Or(o.Bytes, DefaultBytes)
	o.Beat = cmp.Or(o.Beat, 5*time.Second)
	o.Dead = max(cmp.Or(o.Dead, 15*time.Second), o.Linger)
	o.Log = cmp.Or(o.Log, zap.NewNop()).Named("webhook")
	return o
}

// DelivererOptions are the options of a [Deliverer]. Zero values are replaced by defaults.
type DelivererOptions struct {
	// Targets say where webhooks go.
	Targets *Targets
	// Concurrency is how many calls this node makes at a time, and PerOrganization how many of them
	// for one organization. Default 32 and 8.
	Concurrency, PerOrganization int
	// Backoff is the pause after the first failure. It doubles with each, up to MaxBackoff, and is
	// randomly shortened by up to a half. Default 1 s and 5 min.
	Backoff, MaxBackoff time.Duration
	// RetryFor is how long a webhook is tried, from the moment that it tells of. Each is tried at
	// least once. Default [DefaultRetryFor].
	RetryFor time.Duration
	// Claim is how long a line is left alone after a node has taken its first entry and died. Default
	// twice the timeout of a call: no call begins in the second half.
	Claim time.Duration
	// Poll is how often Redis is asked for webhooks. Default 1 s.
	Poll time.Duration
	// Drain is how long calls may go on after the end of Run's context. Default 5 s.
	Drain time.Duration

	Log        *zap.Logger           // may be nil
	Registerer prometheus.Registerer // may be nil
}

func (o DelivererOptions) withDefaults() DelivererOptions {
	o.Concurrency, o.PerOrganization = cmp.Or(o.Concurrency, 32), cmp.Or(o.PerOrganization, 8)
	o.Backoff, o.MaxBackoff = cmp.Or(o.Backoff, time.Second), cmp.Or(o.MaxBackoff, 5*time.Minute)
	o.RetryFor = cmp.Or(o.RetryFor, DefaultRetryFor)
	o.Claim = cmp.Or(o.Claim, 2*o.Targets.timeout())
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	o.Log = cmp.Or(o.Log, zap.NewNop()).Named("webhook")
	return o
}
