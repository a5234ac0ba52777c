package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisclient"
)

const (
	// openTimeout is how long opening may go without any connection becoming ready.
	openTimeout = 10 * time.Second
	// drainTimeout is how long events may go without arriving before the rest counts as lost.
	drainTimeout = 3 * time.Second
	// releaseTimeout is how long the server has to let go of connections that were closed.
	releaseTimeout = 5 * time.Second
	// pollInterval is the pause between two looks at what the loops have done.
	pollInterval = 10 * time.Millisecond
	// maxNotes is how many irregularities a report describes; all of them are counted.
	maxNotes = 8
)

// run is one load against one server.
type run struct {
	// Fixed after construction.
	opts    Options
	bare    bool // the server is not a gateway
	clock   clock
	rooms   []*room
	unheard *room // where nobody is, for noise; else nil
	clients []*client
	loops   []*loop
	tokens  chan struct{} // see publisher.flowing
	serving sync.WaitGroup

	// from and until bound the moments of publishing that latencies are recorded for.
	from, until atomic.Int64
	// failed receives the first error that makes going on pointless; there is room for one.
	failed chan error

	mu     sync.Mutex
	notes  []string
	closes map[int]int64
}

// target is what a run is aimed at.
type target struct {
	name string
	// bare is nil for gateways. For the servers of [Limit] and [Subscriber] it returns the path that
	// tells them the groups of a connection.
	bare func(*client) string
	// url is the address, or several, comma-separated.
	url      string
	observer *observer
	// redis is where events are published, or nil.
	redis redis.UniversalClient
	// open returns a new way to publish.
	open func() sink
}

// Run makes the load that opts describe against gateways and reports what it saw. Progress goes to
// progress once a second, in place if that is a terminal. If ctx ends during the measurement, the
// report covers what was measured until then. A fault of the server's is no error: see
// [Report.ExitCode].
func Run(ctx context.Context, opts Options, progress io.Writer) (rep Report, err error) {
	if err := opts.validate(false); err != nil {
		return Report{}, err
	}
	client, err := opts.connect(ctx)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	return execute(ctx, opts, target{
		name: "gateway", url: opts.URL, observer: newObserver(opts.Pids, opts.Admin),
		redis: client,
		open:  func() sink { return &redisSink{client: client, sharded: len(opts.Redis.Cluster) > 0} },
	}, progress)
}

// connect returns a client of the Redis at which events are published.
func (o *Options) connect(ctx context.Context) (redis.UniversalClient, error) {
	connector, err := redisclient.NewConnector(o.Redis)
	if err != nil {
		return nil, err
	}
	client, err := connector.Connect(0)
	if err != nil || !o.publishes() {
		return client, err
	}
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("redis: %w", err), client.Close())
	}
	return client, nil
}

// execute is the run from opening to report.
func execute(ctx context.Context, opts Options, t target, progress io.Writer) (rep Report, err error) {
	r, err := newRun(ctx, opts, t)
	if err != nil {
		return Report{}, err
	}
	rep = newReport(t.name, opts)
	console := newConsole(progress)
	defer console.done()

	before, err := t.observer.settled(ctx)
	if err != nil {
		return rep, err
	}
	kernelBefore := kernelMemory()

	if err := r.start(); err != nil { //nolint:contextcheck // a handshake of TLS ends with its socket
		return rep, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()

	if err := r.measureOpening(ctx, t, &rep, console); err != nil {
		return rep, err
	}
	if err := r.load(ctx, t, &rep, console); err != nil {
		return rep, err
	}
	during, err := t.observer.read(context.WithoutCancel(ctx))
	if err != nil {
		return rep, err
	}
	rep.memory(before, during, kernelMemory()-kernelBefore)

	if err := r.drain(console); err != nil {
		return rep, err
	}
	r.finish(&rep)
	return rep, r.measureLeft(context.WithoutCancel(ctx), t, before, &rep)
}

// measureOpening opens all connections.
func (r *run) measureOpening(ctx context.Context, t target, rep *Report, console *console) error {
	server, err := t.observer.cpu(ctx)
	if err != nil {
		return err
	}
	client, opened := processCPU(), time.Now()
	if err := r.openAll(ctx, console); err != nil {
		return err
	}
	rep.OpenSeconds = time.Since(opened).Seconds()
	used := processCPU() - client
	after, err := t.observer.cpu(ctx)
	if err != nil {
		return err
	}
	each := float64(len(r.clients)) * 1e3 // of nanoseconds
	rep.ServerCPUPerArrival, rep.ClientCPUPerArrival = float64(after-server)/each, float64(used)/each
	return nil
}

// start brings up the event loops, with the connections shared out among them.
func (r *run) start() error {
	threads := r.opts.Threads
	if threads == 0 {
		threads = defaultThreads()
	}
	threads = min(threads, len(r.clients))
	for range threads {
		p, err := newPoller()
		if err != nil {
			return errors.Join(err, r.stop())
		}
		l := &loop{run: r, poller: p, buf: make([]byte, readBuffer), inflater: newInflater()}
		l.parallel.Store(int64(max(r.opts.Parallel/threads, 1)))
		r.loops = append(r.loops, l)
	}
	for i, c := range r.clients {
		// Whole organizations per loop would leave the receivers of one event to one thread.
		l := r.loops[i%threads]
		c.key = int32(len(l.clients)) //nolint:gosec // fewer than open files
		l.clients = append(l.clients, c)
	}
	for _, l := range r.loops {
		r.serving.Go(func() {
			if err := l.serve(); err != nil {
				r.fail(err)
			}
		})
	}
	return nil
}

// stop ends the event loops and their connections, and waits for that.
func (r *run) stop() error {
	for _, l := range r.loops {
		l.do(func() { l.closing, l.stop = true, true })
	}
	r.serving.Wait()
	r.loops = nil
	select {
	case err := <-r.failed:
		return err
	default:
		return nil
	}
}

// fail notes an error that makes going on pointless. Only the first counts.
func (r *run) fail(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

// note describes an irregularity for the report, unless there are enough.
func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) < maxNotes {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

func (r *run) countClose(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closes[code]++
}

// measured reports whether the latency of an event published then is to be recorded.
func (r *run) measured(at int64) bool { return at >= r.from.Load() && at < r.until.Load() }

// sum adds up one counter of all loops.
func (r *run) sum(counter func(*counters) *atomic.Int64) int64 {
	var n int64
	for _, l := range r.loops {
		n += counter(&l.counters).Load()
	}
	return n
}

func (r *run) ready() int64 {
	return r.sum(func(c *counters) *atomic.Int64 { return &c.ready })
}

func (r *run) deliveries() int64 {
	return r.sum(func(c *counters) *atomic.Int64 { return &c.deliveries }) +
		r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDeliveries })
}

// openAll opens every connection and returns when all are ready.
func (r *run) openAll(ctx context.Context, console *console) error {
	for _, l := range r.loops {
		l.do(func() {
			for _, c := range l.clients {
				l.enqueue(c)
			}
		})
	}
	return r.awaitReady(ctx, console)
}

// awaitReady returns when every connection is ready, except stalled ones that the server ended.
func (r *run) awaitReady(ctx context.Context, console *console) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	progressed := time.Now()
	for last := int64(-1); ; {
		n := r.ready() + r.sum(func(c *counters) *atomic.Int64 { return &c.stalledClosed })
		if n >= int64(len(r.clients)) {
			return nil
		}
		if n != last {
			last, progressed = n, time.Now()
		} else if time.Since(progressed) > openTimeout {
			return fmt.Errorf("open connections: only %d of %d became ready%s", n, len(r.clients), r.lastNotes())
		}
		console.show("opening: %d of %d ready", n, len(r.clients))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-r.failed:
			return fmt.Errorf("open connections: %w", err)
		case <-poll.C:
		}
	}
}

func (r *run) lastNotes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) == 0 {
		return ""
	}
	return ": " + strings.Join(r.notes, "; ")
}
