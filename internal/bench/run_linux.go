package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"

	"github.com/redis/go-redis/v9"
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
	bare    bool // the server is the limit's own
	target  netip.AddrPort
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
	name     string
	bare     bool
	url      string
	observer *observer
	// open returns a new way to publish.
	open func() sink
}

// Run makes the load that opts describe against a gateway and reports what it saw. Progress goes to
// progress once a second, in place if that is a terminal. If ctx ends during the measurement, the
// report covers what was measured until then. A fault of the server's is no error: see
// [Report.ExitCode].
func Run(ctx context.Context, opts Options, progress io.Writer) (rep Report, err error) {
	if err := opts.validate(false); err != nil {
		return Report{}, err
	}
	redisOptions, err := redis.ParseURL(opts.Redis)
	if err != nil {
		return Report{}, fmt.Errorf("redis: %w", err)
	}
	client := redis.NewClient(redisOptions)
	defer func() { err = errors.Join(err, client.Close()) }()
	if opts.publishes() {
		if err := client.Ping(ctx).Err(); err != nil {
			return Report{}, fmt.Errorf("redis: %w", err)
		}
	}
	return execute(ctx, opts, target{
		name: "gateway", url: opts.URL, observer: newObserver(opts.Pid, opts.Admin),
		open: func() sink { return &redisSink{client: client} },
	}, progress)
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

	if err := t.observer.collect(ctx); err != nil {
		return rep, err
	}
	before, err := t.observer.read(ctx)
	if err != nil {
		return rep, err
	}
	kernelBefore := kernelMemory()

	if err := r.start(); err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()

	opened := time.Now()
	if err := r.openAll(ctx, console); err != nil {
		return rep, err
	}
	rep.OpenSeconds = time.Since(opened).Seconds()
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
	return rep, r.release(context.WithoutCancel(ctx), t, before, &rep)
}

// newRun lays out who joins what. Nothing is opened yet.
func newRun(ctx context.Context, opts Options, t target) (*run, error) {
	if limit := openFilesLimit(); opts.Conns > limit-spareFiles {
		return nil, fmt.Errorf("conns: %d connections do not fit into the limit of %d open files", opts.Conns, limit)
	}
	u, err := url.Parse(t.url)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	addr, err := resolve(ctx, u.Host)
	if err != nil {
		return nil, err
	}
	r := &run{
		opts: opts, bare: t.bare, target: addr, clock: newClock(),
		failed: make(chan error, 1), closes: make(map[int]int64),
	}
	r.from.Store(math.MaxInt64)
	r.until.Store(math.MaxInt64)
	if opts.Rate == 0 {
		r.tokens = make(chan struct{}, opts.InFlight)
		for range opts.InFlight {
			r.tokens <- struct{}{}
		}
	}
	if opts.Origin == "" {
		opts.Origin = "http://" + u.Host
	}
	return r, r.populate(ctx, opts, u)
}

// resolve returns the address of HOST[:PORT], IPv4 if there is a choice, since loopback has many
// source addresses only there.
func resolve(ctx context.Context, hostport string) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		host, portText = hostport, "80"
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("url: port %q is no number", portText)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("url: %w", err)
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(port)), nil
}

// populate makes organisations, groups, connections and the cookies with which they sign in.
func (r *run) populate(ctx context.Context, opts Options, u *url.URL) error {
	keys, err := keyspace.New(opts.Prefix)
	if err != nil {
		return err
	}
	if o, err := redis.ParseURL(opts.Redis); err == nil { // the limit of the machine needs none
		keys = keys.InDatabase(o.DB)
	}
	orgs := make([]*organization, min(opts.Orgs, opts.Conns))
	rooms := make([][]*room, len(orgs))
	for i := range orgs {
		noisy := opts.Noisy && i == 0
		name := "bench-" + strconv.Itoa(i)
		if noisy { // a name of its own: the server may hold the noise against it for a while
			name = "bench-noisy"
		}
		id, err := orgctx.ParseID(name)
		if err != nil {
			return fmt.Errorf("organization %s: %w", name, err)
		}
		orgs[i] = &organization{id: id, head: eventHead(name), noisy: noisy}
		rooms[i] = make([]*room, opts.GroupsPerOrg)
	}
	for i := range opts.Conns {
		nth := i / len(orgs) // of its organisation
		c := &client{index: i, org: orgs[i%len(orgs)], fd: -1, stalled: i >= opts.Conns-opts.Stalled}
		for j := range opts.GroupsPerConn {
			number := (nth*opts.GroupsPerConn + j) % opts.GroupsPerOrg
			member := &rooms[i%len(orgs)][number]
			if *member == nil {
				if *member, err = r.newRoom(keys, c.org, number); err != nil {
					return err
				}
			}
			c.memberships = append(c.memberships, membership{room: *member})
		}
		path, cookie := u.RequestURI(), ""
		if r.bare {
			path = limitPath(c) // this server asks for no session
		} else if cookie, err = signIn(ctx, opts.Sessions, c); err != nil {
			return err
		}
		c.request = upgradeRequest(u.Host, path, opts.Origin, cookie, opts.Compress)
		r.clients = append(r.clients, c)
	}
	if opts.NoisyUnheard {
		r.unheard, err = r.newRoom(keys, orgs[0], opts.GroupsPerOrg)
	}
	return err
}

// newRoom makes a group. Only groups that somebody joins exist: events go to all of them in turn.
func (r *run) newRoom(keys keyspace.Keyspace, org *organization, number int) (*room, error) {
	group, err := event.NewGroup(org.id, r.opts.GroupPrefix+strconv.Itoa(number))
	if err != nil {
		return nil, err
	}
	made := &room{
		index: len(r.rooms), number: int64(number), org: org, group: group,
		channel: keys.GroupChannel(group), completed: r.tokens,
	}
	if r.tokens != nil && !org.noisy {
		made.outstanding = newOutstanding(r.opts.InFlight)
	}
	r.rooms = append(r.rooms, made)
	return made, nil
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
		// Whole organisations per loop would leave the receivers of one event to one thread.
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
			return fmt.Errorf("open connections: %d of %d are ready and no more get so%s", n, len(r.clients), r.lastNotes())
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

// load publishes, lets connections come and go, and measures.
func (r *run) load(ctx context.Context, t target, rep *Report, console *console) error {
	for _, l := range r.loops {
		l.do(l.stall)
	}
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var working sync.WaitGroup
	defer working.Wait()
	defer stopLoad()
	work := func(fn func(context.Context) error) {
		working.Go(func() {
			if err := fn(loadCtx); err != nil {
				r.fail(err)
			}
		})
	}

	var publishers []*publisher
	publish := func(noisy bool, drive func(*publisher, context.Context) error) {
		p := &publisher{sink: t.open(), clock: r.clock, size: r.opts.Payload}
		for _, room := range r.rooms {
			if room.org.noisy == noisy && (r.unheard == nil || noisy == (room == r.unheard)) {
				p.rooms = append(p.rooms, room)
			}
		}
		if len(p.rooms) > 0 {
			publishers = append(publishers, p)
			work(func(ctx context.Context) error { return drive(p, ctx) })
		}
	}
	if r.opts.publishes() {
		publish(false, func(p *publisher, ctx context.Context) error {
			if r.opts.Rate > 0 {
				return p.paced(ctx, r.opts.Rate)
			}
			return p.flowing(ctx, r.tokens)
		})
		if r.opts.Noisy {
			publish(true, func(p *publisher, ctx context.Context) error {
				if r.opts.NoisyRate > 0 {
					return p.paced(ctx, r.opts.NoisyRate)
				}
				return p.unbounded(ctx)
			})
		}
	}
	if r.opts.Churn > 0 {
		work(r.churn)
	}

	if err := r.wait(ctx, "warming up", r.opts.Warmup, console); err != nil {
		return err
	}
	if err := r.measure(ctx, t, rep, console); err != nil {
		return err
	}
	stopLoad()
	working.Wait()
	for _, p := range publishers {
		rep.Published += p.published
		rep.PublishLateMax = max(rep.PublishLateMax, p.late)
	}
	return nil
}

// measure runs the measured part of the load.
func (r *run) measure(ctx context.Context, t target, rep *Report, console *console) error {
	r.from.Store(r.clock.now())
	start, clientStart := time.Now(), processCPU()
	serverStart, err := t.observer.cpu(ctx)
	if err != nil {
		return err
	}
	deliveries := r.deliveries()
	noisy := r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDeliveries })
	bytes := r.sum(func(c *counters) *atomic.Int64 { return &c.bytes })
	handshakes := r.sum(func(c *counters) *atomic.Int64 { return &c.handshakes })

	if r.opts.Storm {
		err = r.storm(ctx, rep, console)
	} else {
		err = r.wait(ctx, "measuring", r.opts.Duration, console)
	}
	if err != nil {
		return err
	}

	r.until.Store(r.clock.now())
	rep.Interrupted = ctx.Err() != nil
	serverEnd, err := t.observer.cpu(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	rep.Seconds = time.Since(start).Seconds()
	rep.Deliveries = r.deliveries() - deliveries
	rep.NoisyDeliveries = r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDeliveries }) - noisy
	rep.Bytes = r.sum(func(c *counters) *atomic.Int64 { return &c.bytes }) - bytes
	rep.Handshakes = r.sum(func(c *counters) *atomic.Int64 { return &c.handshakes }) - handshakes
	rep.rates(serverEnd-serverStart, processCPU()-clientStart)
	return nil
}

// wait lets time pass and shows progress. The end of ctx ends it without error.
func (r *run) wait(ctx context.Context, doing string, d time.Duration, console *console) error {
	if d <= 0 {
		return nil
	}
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := r.deliveries(); ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.failed:
			return err
		case <-end.C:
			return nil
		case <-tick.C:
			n := r.deliveries()
			console.show("%s: %d deliveries/s · ready %d · lost %d · duplicated %d · reordered %d · foreign %d", doing, n-last, r.ready(),
				r.sum(func(c *counters) *atomic.Int64 { return &c.lost }),
				r.sum(func(c *counters) *atomic.Int64 { return &c.duplicated }),
				r.sum(func(c *counters) *atomic.Int64 { return &c.reordered }),
				r.sum(func(c *counters) *atomic.Int64 { return &c.foreign }))
			last = n
		}
	}
}

// churn closes and reopens connections at random until ctx ends.
func (r *run) churn(ctx context.Context) error {
	every := time.NewTicker(max(time.Duration(float64(time.Second)/r.opts.Churn), time.Microsecond))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			i := rand.IntN(len(r.clients)) //nolint:gosec // which connection leaves is no secret
			l := r.loops[i%len(r.loops)]
			l.do(func() { l.reopen(r.clients[i]) })
		}
	}
}

// storm has all connections leave and come back at once, again and again for the duration.
func (r *run) storm(ctx context.Context, rep *Report, console *console) error {
	for start := time.Now(); time.Since(start) < r.opts.Duration && ctx.Err() == nil; {
		began := time.Now()
		var left sync.WaitGroup
		for _, l := range r.loops {
			left.Add(1)
			l.do(func() {
				defer left.Done()
				for _, c := range l.clients {
					l.reopen(c)
				}
			})
		}
		left.Wait() // or the connections of before would look ready still
		if err := r.awaitReady(ctx, console); err != nil && ctx.Err() == nil {
			return err
		}
		rep.Storms++
		rep.StormLongest = max(rep.StormLongest, time.Since(began))
		console.show("storm %d: all %d back after %s", rep.Storms, len(r.clients), time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// drain returns when every published event has arrived, or none has for a while.
func (r *run) drain(console *console) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for _, l := range r.loops {
		l.do(l.resume)
	}
	progressed := time.Now()
	for last := int64(-1); ; {
		var missing, unready atomic.Int64
		var asked sync.WaitGroup
		for _, l := range r.loops {
			asked.Add(1)
			l.do(func() {
				defer asked.Done()
				events, connections := l.owed()
				missing.Add(events)
				unready.Add(connections)
			})
		}
		asked.Wait()
		n := missing.Load() + unready.Load()
		if n == 0 {
			return nil
		}
		if n != last {
			last, progressed = n, time.Now()
		} else if time.Since(progressed) > drainTimeout {
			return nil
		}
		console.show("draining: %d events to come", missing.Load())
		select {
		case err := <-r.failed:
			return err
		case <-poll.C:
		}
	}
}

// finish counts what never came, and fills in the report.
func (r *run) finish(rep *Report) {
	var latency, noisy, handshake histogram
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, l := range r.loops {
		asked.Add(1)
		l.do(func() {
			defer asked.Done()
			l.closing = true
			for _, c := range l.clients {
				if c.state == ready && !c.stalled {
					l.countOwed(c)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			latency.add(&l.latency)
			noisy.add(&l.noisy)
			handshake.add(&l.handshake)
		})
	}
	asked.Wait()
	rep.Latency, rep.NoisyLatency, rep.Handshake = latency.latency(), noisy.latency(), handshake.latency()
	rep.Lost = r.sum(func(c *counters) *atomic.Int64 { return &c.lost })
	rep.NoisyLost = r.sum(func(c *counters) *atomic.Int64 { return &c.noisyLost })
	rep.Duplicated = r.sum(func(c *counters) *atomic.Int64 { return &c.duplicated })
	rep.Reordered = r.sum(func(c *counters) *atomic.Int64 { return &c.reordered })
	rep.Foreign = r.sum(func(c *counters) *atomic.Int64 { return &c.foreign })
	rep.Gaps = r.sum(func(c *counters) *atomic.Int64 { return &c.gaps })
	rep.Unexpected = r.sum(func(c *counters) *atomic.Int64 { return &c.unexpected })
	rep.Refused = r.sum(func(c *counters) *atomic.Int64 { return &c.refused })
	rep.Dropped = r.sum(func(c *counters) *atomic.Int64 { return &c.dropped })
	rep.NoisyDropped = r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDropped })
	rep.StalledClosed = r.sum(func(c *counters) *atomic.Int64 { return &c.stalledClosed })
	rep.Closes = r.closes
	rep.Notes = r.notes
}

// release closes everything and sees whether the server lets go of it too.
func (r *run) release(ctx context.Context, t target, before usage, rep *Report) error {
	if err := r.stop(); err != nil {
		return err
	}
	if t.observer.admin == "" {
		return nil
	}
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for start := time.Now(); ; {
		u, err := t.observer.read(ctx)
		if err != nil {
			return err
		}
		if u.goroutines <= before.goroutines+spareGoroutines || time.Since(start) > releaseTimeout {
			break
		}
		<-poll.C
	}
	if err := t.observer.collect(ctx); err != nil {
		return err
	}
	after, err := t.observer.read(ctx)
	if err != nil {
		return err
	}
	rep.released(before, after)
	return nil
}
