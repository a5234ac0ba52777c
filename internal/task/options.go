package task

import (
	"crypto/rand"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/event"
)

// DispatcherOptions configure a [Dispatcher]. Zero values are replaced by defaults.
type DispatcherOptions struct {
	Memory     time.Duration         // how long an idempotency key counts; default [DefaultKeyLife]
	Backlog    int                   // most entries of a kind; default [DefaultBacklog]
	Registerer prometheus.Registerer // for metrics; may be nil
}

func (o *DispatcherOptions) complete() {
	setDefault(&o.Memory, DefaultKeyLife)
	setDefault(&o.Backlog, DefaultBacklog)
}

// Options configure a [Worker]. Zero values are replaced by defaults.
type Options struct {
	// Concurrency is how many tasks of each kind run at a time; default 8.
	Concurrency int
	// Timeout is the deadline of one run of a handler; default 5 min.
	Timeout time.Duration
	// Attempts is how often a task is tried before it is given up; default 5.
	Attempts int
	// Backoff is the pause after the first failure; it doubles with each, up to Takeover, and is
	// shortened at random by up to a half. Default 1 s.
	Backoff time.Duration
	// Takeover is the silence after which a task's worker counts as dead. A live one speaks three
	// times as often, however long the task. Default 30 s.
	Takeover time.Duration
	// Poll is how often entries to take over are looked for; default 1 s.
	Poll time.Duration
	// Drain is how long running handlers may go on when the worker is told to stop; default 10 s.
	Drain time.Duration
	// Grace is how long a handler may take to return once its context has ended; default 5 s.
	Grace time.Duration
	// Memory is how long the end of a task is remembered; default [DefaultMemory].
	Memory time.Duration
	// MaxEvent is the largest event, in bytes; default [event.DefaultMaxSize].
	MaxEvent int
	// HistoryLength is about how many events the history of a group keeps; default
	// [event.DefaultHistoryLength].
	HistoryLength int
	// HistoryAge is how long it keeps them; default [event.DefaultHistoryAge].
	HistoryAge time.Duration
	// Tools are what handlers reach with [RunTool]; may be nil.
	Tools *Tools
	// Name is this worker's in the consumer group; default made from the host's, the process id
	// and chance. Two live workers must never share one.
	Name string

	Log        *zap.Logger           // may be nil
	Registerer prometheus.Registerer // for metrics; may be nil
}

func (o *Options) complete() {
	setDefault(&o.Concurrency, 8)
	setDefault(&o.Timeout, 5*time.Minute)
	setDefault(&o.Attempts, 5)
	setDefault(&o.Backoff, time.Second)
	setDefault(&o.Takeover, 30*time.Second)
	setDefault(&o.Poll, time.Second)
	setDefault(&o.Drain, 10*time.Second)
	setDefault(&o.Grace, 5*time.Second)
	setDefault(&o.Memory, DefaultMemory)
	setDefault(&o.MaxEvent, event.DefaultMaxSize)
	setDefault(&o.HistoryLength, event.DefaultHistoryLength)
	setDefault(&o.HistoryAge, event.DefaultHistoryAge)
	if o.Name == "" {
		host, _ := os.Hostname() // chance alone is enough
		o.Name = host + "-" + strconv.Itoa(os.Getpid()) + "-" + rand.Text()[:8]
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Log = o.Log.Named("task")
}

// setDefault replaces what makes no sense.
func setDefault[T int | time.Duration](value *T, standard T) {
	if *value <= 0 {
		*value = standard
	}
}
