package task

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
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

func (o DispatcherOptions) withDefaults() DispatcherOptions {
	o.Memory = cmp.Or(o.Memory, DefaultKeyLife)
	if o.Limit == nil {
		o.Limit = func(context.Context, orgctx.ID) Limit { return DefaultLimit() }
	}
	return o
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

func (o Options) withDefaults() Options {
	o.Concurrency = cmp.Or(o.Concurrency, DefaultConcurrency)
	o.Share = cmp.Or(o.Share, DefaultShare)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Attempts = cmp.Or(o.Attempts, DefaultAttempts)
	o.Backoff = cmp.Or(o.Backoff, DefaultBackoff)
	o.Takeover = cmp.Or(o.Takeover, DefaultTakeover)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Drain = cmp.Or(o.Drain, DefaultDrain)
	o.Grace = cmp.Or(o.Grace, 5*time.Second)
	o.Memory = cmp.Or(o.Memory, DefaultMemory)
	o.MaxEvent = cmp.Or(o.MaxEvent, event.DefaultMaxSize)
	o.HistoryLength = cmp.Or(o.HistoryLength, event.DefaultHistoryLength)
	o.HistoryAge = cmp.Or(o.HistoryAge, event.DefaultHistoryAge)
	if o.Name == "" {
		host, _ := os.Hostname() // random text alone is enough
		o.Name = host + "-" + strconv.Itoa(os.Getpid()) + "-" + rand.Text()[:8]
	}
	o.Log = cmp.Or(o.Log, zap.NewNop()).Named("task")
	return o
}

func (o Options) validate() error {
	least := min(o.Timeout, o.Backoff, o.Takeover, o.Poll, o.Drain, o.Grace, o.Memory, o.HistoryAge)
	if o.Concurrency < 0 || o.Attempts < 0 || o.MaxEvent < 0 || o.HistoryLength < 0 || least < 0 {
		return errors.New("task: options must not be negative")
	}
	if o.Share <= 0 || o.Share > 1 {
		return errors.New("task: Share must be greater than 0 and at most 1")
	}
	return nil
}
