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
	"orgcast/internal/tracing"
)

// DispatcherOptions configure a [Dispatcher]. Zero values are replaced by defaults.
type DispatcherOptions struct {
	// Memory is how long an idempotency key counts. Default [DefaultKeyLife].
	Memory time.Duration
	// Limit returns the limits of an organization's waiting tasks. It is called for each task, so
	// it must be fast. If it is nil, every organization has [DefaultLimit].
	Limit func(ctx context.Context, org orgctx.ID) Limit

	Registerer prometheus.Registerer // for metrics; may be nil
}

// Limit limits the waiting tasks of one organization, for each kind, and sets how often its turn
// comes.
type Limit struct {
	// Tasks and Bytes bound its line. 0 means no limit.
	Tasks, Bytes int64
	// Weight is how many of its tasks begin for each task of an organization with weight 1, while
	// both have tasks waiting. It is 1 to [MaxWeight].
	Weight int64
}

// MaxWeight is the largest weight of an organization.
const MaxWeight = 100

// DefaultLimit returns the limit of an organization if nothing else is set.
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
	// Concurrency is how many tasks of each kind run at a time. Default [DefaultConcurrency].
	Concurrency int
	// Share is the part of these that tasks of one organization may occupy, but at least one. It is
	// above 0, up to 1. The rest stays free for other organizations, so their tasks begin at once,
	// however many tasks of one organization wait. Default [DefaultShare].
	Share float64
	// Timeout is the deadline of one run of a handler. Default [DefaultTimeout].
	Timeout time.Duration
	// Attempts is how often a task is tried before it fails. Default [DefaultAttempts].
	Attempts int
	// Backoff is the pause after the first failure. It doubles with each failure, up to Takeover,
	// and is randomly shortened by up to a half. Default [DefaultBackoff].
	Backoff time.Duration
	// Takeover is the silence after which a task's worker counts as dead. A live worker renews its
	// claim three times in that time, however long the task runs. Default [DefaultTakeover].
	Takeover time.Duration
	// Poll is how often the worker looks for entries to take over. Default 1 s.
	Poll time.Duration
	// Drain is how long running handlers may continue after the worker was told to stop. Default
	// [DefaultDrain].
	Drain time.Duration
	// Grace is how long a handler may take to return after its context has ended. Default 5 s.
	Grace time.Duration
	// Memory is how long Redis remembers the end of a task. Default [DefaultMemory].
	Memory time.Duration
	// MaxEvent is the largest event, in bytes. Default [event.DefaultMaxSize].
	MaxEvent int
	// HistoryLength is roughly how many events the history of a group keeps. Default
	// [event.DefaultHistoryLength].
	HistoryLength int
	// HistoryAge is how long it keeps them. Default [event.DefaultHistoryAge].
	HistoryAge time.Duration
	// Tools are the tools for [RunTool] in handlers. May be nil.
	Tools *Tools
	// Tracer makes a span of each attempt at a task. It may be nil.
	Tracer *tracing.Tracer
	// Name is this worker's name in the consumer group. The default consists of the host name, the
	// process id and random text. Two live workers must never have the same name.
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
