package webhook

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/loglimit"
	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
)

const (
	// holdFor is how long an organization is passed over after its receiver was given a rest.
	holdFor = 2 * time.Second
	// maxHeld is how many organizations are passed over for that reason.
	maxHeld = 4096
	// deadMost is roughly how many dead letters of an organization are kept.
	deadMost = 1000
	// deadFor is how long they are kept after the last one.
	deadFor = 30 * 24 * time.Hour
	// settleTries is how often an outcome is written before another node finds out.
	settleTries = 4
)

// Reasons for dead letters.
const (
	reasonMalformed  = "malformed"
	reasonNoReceiver = "no_receiver"
	// reasonMisconfigured is for a URL or a key with which no call can be made.
	reasonMisconfigured = "misconfigured"
)

// Deliverer calls the receivers of webhooks that wait in Redis, whichever node wrote them.
type Deliverer struct {
	client  redis.Cmdable
	ring    string
	opt     DelivererOptions
	scripts scripts
	metrics *delivererMetrics
	slots   chan struct{} // its capacity is how many calls are under way; nobody closes it
	freed   chan struct{} // has room for one wake-up; nobody closes it

	mu      sync.Mutex
	calls   map[orgctx.ID]int       // under way
	held    map[orgctx.ID]time.Time // passed over until then
	trouble loglimit.Limiter
}

// NewDeliverer returns a Deliverer.
func NewDeliverer(client redis.Cmdable, keys keyspace.Keyspace, o DelivererOptions) *Deliverer {
	o = o.withDefaults()
	d := &Deliverer{
		client: client, ring: keys.WebhookRing(), opt: o, scripts: newScripts(), metrics: newDelivererMetrics(o.Registerer),
		slots: make(chan struct{}, o.Concurrency), freed: make(chan struct{}, 1),
		calls: make(map[orgctx.ID]int), held: make(map[orgctx.ID]time.Time),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(newCounts(d))
	}
	return d
}

// claimed is an entry that this node delivers.
type claimed struct {
	org   orgctx.ID
	line  string
	entry Entry
	id    string // of the entry, also if that is malformed
	tries int
	err   error     // why it cannot be delivered
	since time.Time // the claim lasts at least [DelivererOptions.Claim] from then on
}

// Run delivers until ctx ends, and then lets calls finish for a while. A signal of woken says that
// webhooks may wait; others are found within a second or so.
func (d *Deliverer) Run(ctx context.Context, woken <-chan struct{}) {
	working, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var running sync.WaitGroup
	for ctx.Err() == nil {
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		c, next, err := d.claim(ctx)
		if err == nil && c != nil {
			running.Go(func() {
				d.deliver(working, c)
				d.give(c.org)
				<-d.slots
			})
			continue
		}
		<-d.slots
		if err != nil && ctx.Err() == nil {
			d.log("reading webhooks failed", err)
		}
		d.wait(ctx, woken, next)
	}
	timer := time.AfterFunc(d.opt.Drain, cut)
	defer timer.Stop()
	running.Wait()
}

// wait waits until there may be something to deliver.
func (d *Deliverer) wait(ctx context.Context, woken <-chan struct{}, next time.Duration) {
	timer := time.NewTimer(min(next, d.opt.Poll))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-woken:
	case <-d.freed:
	case <-ctx.Done():
	}
}

func (d *Deliverer) log(message string, err error) {
	d.mu.Lock()
	suppressed, ok := d.trouble.Allow(time.Now())
	d.mu.Unlock()
	if ok {
		d.opt.Log.Warn(message, zap.Error(err), zap.Int("suppressed", suppressed))
	}
}

// passed returns the organizations that are passed over: those with enough calls under way, and
// those whose receivers have a rest.
func (d *Deliverer) passed() (orgs []any) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for org, n := range d.calls {
		if n >= d.opt.PerOrganization {
			orgs = append(orgs, org.String())
		}
	}
	for org, until := range d.held {
		if !now.Before(until) {
			delete(d.held, org)
		} else if d.calls[org] < d.opt.PerOrganization {
			orgs = append(orgs, org.String())
		}
	}
	return orgs
}

// hold passes over an organization for a while.
func (d *Deliverer) hold(org orgctx.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.held) < maxHeld {
		d.held[org] = time.Now().Add(holdFor)
	}
}

func (d *Deliverer) give(org orgctx.ID) {
	d.mu.Lock()
	if d.calls[org]--; d.calls[org] == 0 {
		delete(d.calls, org)
	}
	d.mu.Unlock()
	signal(d.freed)
}

// claim returns an entry to deliver, or nil and the time until there may be one.
func (d *Deliverer) claim(ctx context.Context) (c *claimed, next time.Duration, err error) {
	since := time.Now()
	answer, err := d.run(ctx, d.scripts.claim, append([]any{d.opt.Claim.Microseconds()}, d.passed()...)...).StringSlice()
	switch {
	case err != nil:
		return nil, d.opt.Poll, err
	case len(answer) < 4:
		next = d.opt.Poll
		if len(answer) == 1 && answer[0] != "" {
			µs, _ := strconv.ParseInt(answer[0], 10, 64) // 0 asks again at once
			next = time.Duration(µs) * time.Microsecond
		}
		return nil, next, nil
	}
	c = &claimed{line: answer[1], id: idOf(answer[2]), since: since}
	c.tries, _ = strconv.Atoi(answer[3]) // 0 begins with the shortest pause
	if c.org, err = orgctx.ParseID(answer[0]); err != nil {
		return nil, d.opt.Poll, err
	}
	c.entry, c.err = parseEntry(answer[2])
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[c.org]++
	return c, 0, nil
}

// deliver makes one attempt and notes the outcome.
func (d *Deliverer) deliver(ctx context.Context, c *claimed) {
	log := d.opt.Log.With(zap.Stringer("organization_id", c.org), zap.String("webhook", c.id))
	if c.err != nil {
		log.Error("webhook cannot be read", zap.Error(c.err))
		d.bury(ctx, c, reasonMalformed)
		return
	}
	status, err := d.post(ctx, c)
	switch {
	case err == nil && status/100 == 2:
		d.metrics.deliveries.WithLabelValues(resultDelivered).Inc()
		d.metrics.seconds.Observe(max(time.Since(c.entry.At), 0).Seconds())
		d.settle(ctx, c, "done", 0, "")
	case errors.Is(err, errLate): // another node may have the line by now
	case errors.Is(err, outgoing.ErrAbandoned): // this node stops: another one continues
		d.settle(ctx, c, "later", 0, "")
	case errors.Is(err, outgoing.ErrCircuitOpen), errors.Is(err, outgoing.ErrBusy):
		d.hold(c.org)
		d.settle(ctx, c, "later", holdFor, "")
	default:
		d.failed(ctx, log, c, status, err)
	}
}

// errLate is returned if Redis was so slow that no call was made.
var errLate = errors.New("webhook: too late to call")

// post calls the receiver.
func (d *Deliverer) post(ctx context.Context, c *claimed) (status int, err error) {
	t, err := d.opt.Targets.of(ctx, c.org)
	if err != nil {
		return 0, err
	}
	if time.Since(c.since) > d.opt.Targets.timeout() { // the call could outlast the claim
		return 0, errLate
	}
	answer, err := t.endpoint.Post(ctx, outgoing.Call{Organization: c.org, ID: c.entry.ID, Body: c.entry.Body, Keys: t.keys})
	return answer.Status, err
}

// failed has an entry tried again, or buries it.
func (d *Deliverer) failed(ctx context.Context, log *zap.Logger, c *claimed, status int, err error) {
	reason := reasonOf(status, err)
	fields := []zap.Field{zap.String("reason", reason), zap.Int("attempt", c.tries+1), zap.Error(err)}
	if time.Since(c.entry.At) >= d.opt.RetryFor {
		log.Warn("webhook given up", fields...)
		d.bury(ctx, c, reason)
		return
	}
	d.metrics.deliveries.WithLabelValues(resultFailed).Inc()
	pause := d.backoff(c.tries)
	if suppressed, ok := d.allow(); ok {
		log.Info("webhook not delivered, another attempt follows", append(fields, zap.Duration("after_seconds", pause), zap.Int("suppressed", suppressed))...)
	}
	d.settle(ctx, c, "again", pause, "")
}

// allow reports whether to log trouble now.
func (d *Deliverer) allow() (suppressed int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble.Allow(time.Now())
}

// reasonOf returns the stable name of a failure.
func reasonOf(status int, err error) string {
	switch {
	case err == nil:
		return "status_" + strconv.Itoa(status)
	case errors.Is(err, ErrNoReceiver):
		return reasonNoReceiver
	case errors.Is(err, errMisconfigured):
		return reasonMisconfigured
	case errors.Is(err, outgoing.ErrTimeout):
		return "timeout"
	case errors.Is(err, outgoing.ErrTooLarge):
		return "too_large"
	case errors.Is(err, outgoing.ErrPrivateAddress):
		return "private_address"
	default:
		return "unreachable"
	}
}

// backoff returns the pause after so many earlier attempts.
func (d *Deliverer) backoff(tries int) time.Duration {
	pause := d.opt.Backoff
	for range tries {
		if pause *= 2; pause >= d.opt.MaxBackoff {
			break
		}
	}
	pause = min(pause, d.opt.MaxBackoff)
	return pause - time.Duration(rand.Int64N(int64(pause)/2+1)) //nolint:gosec // jitter is no secret
}

func (d *Deliverer) bury(ctx context.Context, c *claimed, reason string) {
	if d.settle(ctx, c, "dead", 0, reason) {
		d.metrics.deliveries.WithLabelValues(resultDead).Inc()
	}
}

// settle writes an outcome, and reports whether it counts. If Redis does not take it, the entry is
// claimed again later, and delivered again under the same ID.
func (d *Deliverer) settle(ctx context.Context, c *claimed, outcome string, after time.Duration, reason string) bool {
	var err error
	for n := range settleTries {
		if n > 0 {
			pause(ctx, retryPause)
		}
		if n > 0 && ctx.Err() != nil {
			break
		}
		var ours int
		ours, err = d.run(ctx, d.scripts.settle, c.org.String(), c.line, c.id, outcome, after.Microseconds(), reason, deadMost, deadFor.Milliseconds()).Int()
		if err == nil {
			return ours == 1
		}
	}
	d.log("outcome of a webhook not written, it is delivered again", err)
	return false
}

func (d *Deliverer) run(ctx context.Context, s *redis.Script, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	return s.Run(ctx, d.client, []string{d.ring}, args...)
}
