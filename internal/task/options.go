package task

import (
	"context"
	"crypto/rand"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// DispatcherOptions configure a [Dispatcher]. Zero values are replaced by defaults.
type DispatcherOptions struct {
	// Memory is how long an idempotency key counts; default [DefaultKeyLife].
	Memory time.Duration
	// Limit returns what an organization may have waiting. It is called for each task, so it must
	// be quick. If it is nil, all have [DefaultLimit].
	Limit func(ctx context.Context, org orgctx.ID) Limit

	Registerer prometheus.Registerer // for metrics; may be nil
}

// Limit is what one organization may have waiting of each kind, and how often its turn comes.
type Limit struct {
	// Tasks and Bytes bound its line; 0 is no limit.
	Tasks, Bytes int64
	// Weight is how many of its tasks begin for each one of an organization with the weight 1,
	// while both have tasks waiting: 1 to [MaxWeight].
	Weight int64
}

// MaxWeight is the largest weight of an organization.
const MaxWeight = 100

// DefaultLimit is what an organization may have waiting if nothing else is set.
func DefaultLimit() Limit { return Limit{Tasks: DefaultWaiting, Bytes: DefaultWaitingBytes, Weight: 1} }

func (o *DispatcherOptions) complete() {
	setDefault(&o.Memory, DefaultKeyLife)
	if o.Limit == nil {
		o.Limit = func(context.Context, orgctx.ID) Limit { return DefaultLimit() }
	}
}

// Defaults of [Options].
const (
	DefaultConcurrency = 8
	DefaultShare       = 0.5
	DefaultTimeout     = 5 * time.Minute
	DefaultAttempts    = 5
	DefaultBackoff     = time.Second
	DefaultTakeover    = 30 * time.Second
	DefaultDrain       = 10 * time.Second
)

// Options configure a [Worker]. Zero values are replaced by defaults.
type Options struct {
	// Concurrency is how many tasks of each kind run at a time; default
	// [DefaultConcurrency].
	Concurrency int
	// Share is the part of these that tasks of one organization may have, though at least one;
	// above 0, up to 1. The rest stays free for others, whose tasks begin at once however many of
	// one wait. Default [DefaultShare].
	Share float64
	// Timeout is the deadline of one run of a handler; default [DefaultTimeout].
	Timeout time.Duration
	// Attempts is how often a task is tried before it is given up; default
	// [DefaultAttempts].
	Attempts int
	// Backoff is the pause after the first failure; it doubles with each, up to Takeover, and is
	// shortened at random by up to a half. Default [DefaultBackoff].
	Backoff time.Duration
	// Takeover is the silence after which a task's worker counts as dead. A live one speaks three
	// times as often, however long the task. Default [DefaultTakeover].
	Takeover time.Duration
	// Poll is how often the worker looks for entries to take over; default 1 s.
	Poll time.Duration
	// Drain is how long running handlers may go on when the worker is told to stop; default
	// [DefaultDrain].
	Drain time.Duration
	// Grace is how long a handler may take to return once its context has ended; default 5 s.
	Grace time.Duration
	// Memory is how long Redis remembers the end of a task; default [DefaultMemory].
	Memory time.Duration
	// MaxEvent is the largest event, in bytes; default [event.DefaultMaxSize].
	MaxEvent int
	// HistoryLength is roughly how many events the history of a group keeps; default
	// [event.DefaultHistoryLength].
	HistoryLength int
	// HistoryAge is how long it keeps them; default [event.DefaultHistoryAge].
	HistoryAge time.Duration
	// Tools are what handlers reach with [RunTool]; may be nil.
	Tools *Tools
	// Name is this worker's name in the consumer group. The default is made of the host name, the
	// process id and random text. Two live workers must never share a name.
	Name string

	Log        *zap.Logger           // may be nil
	Registerer prometheus.Registerer // for metrics; may be nil
}

func (o *Options) complete() {
	setDefault(&o.Concurrency, DefaultConcurrency)
	if o.Share <= 0 || o.Share > 1 {
		o.Share = DefaultShare
	}
	setDefault(&o.Timeout, DefaultTimeout)
	setDefault(&o.Attempts, DefaultAttempts)
	setDefault(&o.Backoff, DefaultBackoff)
	setDefault(&o.Takeover, DefaultTakeover)
	setDefault(&o.Poll, time.Second)
	setDefault(&o.Drain, DefaultDrain)
	setDefault(&o.Grace, 5*time.Second)
	setDefault(&o.Memory, DefaultMemory)
	setDefault(&o.MaxEvent, event.DefaultMaxSize)
	setDefault(&o.HistoryLength, event.DefaultHistoryLength)
	setDefault(&o.HistoryAge, event.DefaultHistoryAge)
	if o.Name == "" {
		host, _ := os.Hostname() // random text alone is enough
		o.Name = host + "-" + strconv.Itoa(os.Getpid()) + "-" + rand.Text()[:8]
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Log = o.Log.Named("task")
}

// setDefault replaces values that make no sense.
func setDefault[T int | time.Duration](value *T, standard T) {
	if *value <= 0 {
		*value = standard
	}
}
