package webhook

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/loglimit"
)

const (
	// redisTimeout bounds each round trip to Redis, which normally takes a millisecond.
	redisTimeout = 5 * time.Second
	// batchSteps is how many steps one round trip writes. Redis does nothing else meanwhile, which
	// takes less than a millisecond.
	batchSteps = 128
	// retryPause is the pause after Redis has failed.
	retryPause = 500 * time.Millisecond
	// buryAtOnce is how many groups of a dead node are taken from it in one round trip.
	buryAtOnce = 128
)

// Recorder takes what the node observes and writes it to Redis. Its methods other than Run do not
// block and are safe for concurrent use.
type Recorder struct {
	client  redis.Cmdable
	ring    string
	keys    keyspace.Keyspace
	node    string
	opt     RecorderOptions
	scripts scripts
	metrics *recorderMetrics
	queue   *queue
	wake    chan struct{} // has room for one wake-up; nobody closes it
	written chan struct{} // likewise: something was written

	// Owned by Run.
	groups  *occupancy
	pending []written // a batch that is written next, or again
	epoch   string    // of the data in Redis, empty before the first beat
	batches int
	beatAt  time.Time

	mu      sync.Mutex
	changed map[event.Group]struct{} // groups that Run looks at
	trouble loglimit.Limiter
}

// NewRecorder returns a Recorder, which writes while [Recorder.Run] runs.
func NewRecorder(client redis.Cmdable, keys keyspace.Keyspace, o RecorderOptions) *Recorder {
	o = o.withDefaults()
	return &Recorder{
		client: client, ring: keys.WebhookRing(), keys: keys, node: rand.Text(), opt: o, scripts: newScripts(),
		metrics: newRecorderMetrics(o.Registerer), queue: newQueue(), wake: make(chan struct{}, 1), written: make(chan struct{}, 1),
		groups: newOccupancy(o.Linger), changed: make(map[event.Group]struct{}),
	}
}

// Connected tells of a connection that is served from now on.
func (r *Recorder) Connected(c Connection) { r.tell(happening{kind: Connected, conn: c}) }

// Disconnected tells that a connection has ended.
func (r *Recorder) Disconnected(c Connection, cause string) {
	r.tell(happening{kind: Disconnected, conn: c, cause: cause})
}

// Gap tells that a connection was told of a gap in a group.
func (r *Recorder) Gap(c Connection, g event.Group) {
	r.tell(happening{kind: Gap, conn: c, group: g})
}

// Changed says that a group may have got its first connection on this node, or lost its last.
func (r *Recorder) Changed(g event.Group) {
	if !r.opt.Groups.match(g) {
		return
	}
	r.mu.Lock()
	r.changed[g] = struct{}{}
	r.mu.Unlock()
	signal(r.wake)
}

func (r *Recorder) tell(h happening) {
	if !r.opt.Types[h.kind] || h.organization().IsZero() {
		return
	}
	h.at = time.Now()
	if r.queue.put(h) {
		signal(r.wake)
		return
	}
	r.dropped(dropMemory, &h)
}

// dropped counts and logs a webhook that was dropped.
func (r *Recorder) dropped(reason string, h *happening) {
	r.metrics.dropped.WithLabelValues(reason).Inc()
	r.mu.Lock()
	suppressed, ok := r.trouble.Allow(time.Now())
	r.mu.Unlock()
	if ok {
		r.opt.Log.Warn("webhook dropped", zap.String("reason", reason), zap.Stringer("organization_id", h.organization()),
			zap.String("type", string(h.kind)), zap.Int("suppressed", suppressed))
	}
}

// signal wakes a loop, at once or when it next waits.
func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends. Then it writes what waits, within the time of final, and leaves the
// groups of this node to the others.
func (r *Recorder) Run(ctx context.Context, final time.Duration) {
	for ctx.Err() == nil {
		more, err := r.turn(ctx, true)
		if more && err == nil {
			continue
		}
		r.wait(ctx, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), final)
	defer cancel()
	for ctx.Err() == nil {
		more, err := r.turn(ctx, false)
		if err != nil {
			r.wait(ctx, err)
		} else if !more {
			break
		}
	}
	if left := len(r.queue.take(maxCount)) + len(r.pending); left > 0 {
		r.metrics.dropped.WithLabelValues(dropMemory).Add(float64(left))
		r.opt.Log.Error("webhooks lost at shutdown", zap.Int("webhooks", left))
	}
	r.leave(ctx)
}

// maxCount is more than the queue can hold.
const maxCount = queueBytes

// wait waits until there may be something to do. After an error, it waits a little longer.
func (r *Recorder) wait(ctx context.Context, err error) {
	until := r.beatAt.Add(r.opt.Beat)
	if due, ok := r.groups.due(); ok && due.Before(until) {
		until = due
	}
	wake := r.wake
	if err != nil {
		until, wake = time.Now().Add(retryPause), nil
		r.log("writing webhooks failed", err)
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

func (r *Recorder) log(message string, err error) {
	r.mu.Lock()
	suppressed, ok := r.trouble.Allow(time.Now())
	r.mu.Unlock()
	if ok {
		r.opt.Log.Warn(message, zap.Error(err), zap.Int("suppressed", suppressed))
	}
}

// turn does what is due, and reports whether there may be more. lives says that this node does not
// end.
func (r *Recorder) turn(ctx context.Context, lives bool) (more bool, err error) {
	if err := r.write(ctx); err != nil {
		return false, err
	}
	now := time.Now()
	r.observe(now)
	if lives && !now.Before(r.beatAt.Add(r.opt.Beat)) {
		if err := r.beat(ctx, now); err != nil || len(r.pending) > 0 {
			return true, err
		}
	}
	var batch []written
	for len(batch) < batchSteps/2 {
		g, what, ok := r.groups.next(now)
		if !ok {
			break
		}
		batch = append(batch, r.ofGroup(ctx, g, what, r.node))
	}
	for _, h := range r.queue.take(batchSteps - len(batch)) {
		if r.opt.Targets.Wants(ctx, h.organization()) {
			batch = append(batch, written{step: stepEvent, happening: h, entry: h.entry().text()})
		}
	}
	r.begin(batch)
	return len(batch) > 0 || !r.queue.empty(), nil
}

// observe looks at the groups that may have changed.
func (r *Recorder) observe(now time.Time) {
	r.mu.Lock()
	changed := r.changed
	r.changed = make(map[event.Group]struct{})
	r.mu.Unlock()
	for g := range changed {
		r.groups.observe(g, r.opt.Present(g), now)
	}
}

// written is a step to write.
type written struct {
	step
	happening

	member, node string // of a group
	entry        string // empty if nothing is told
}

// ofGroup returns a step about a group of a node.
func (r *Recorder) ofGroup(ctx context.Context, g event.Group, what step, node string) written {
	w := written{step: what, happening: happening{kind: Occupied, group: g, at: time.Now()}, member: member(g), node: node}
	if what == stepVacate || what == stepBury {
		w.kind = Vacated
	}
	if r.opt.Types[w.kind] && r.opt.Targets.Wants(ctx, g.Organization()) {
		w.entry = w.happening.entry().text()
	}
	return w
}

// member returns the name of a group among the groups of all organizations.
func member(g event.Group) string { return g.Organization().String() + " " + g.Name() }

// begin makes a batch the one that is written next.
func (r *Recorder) begin(batch []written) {
	if len(batch) > 0 {
		r.batches++
		r.pending = batch
	}
}

// write writes the batch that is pending. After an error it stays, because it may have been written.
func (r *Recorder) write(ctx context.Context) error {
	if len(r.pending) == 0 {
		return nil
	}
	args := []any{r.node, strconv.Itoa(r.batches), r.opt.Bytes, r.opt.Dead.Microseconds()}
	for i := range r.pending {
		w := &r.pending[i]
		args = append(args, string(w.step), w.organization().String(), w.line(), w.member, w.node, w.entry)
	}
	results, err := r.run(ctx, r.scripts.write, args...).Int64Slice()
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	r.wrote(r.pending, results)
	r.pending = nil
	return nil
}

// wrote takes the results of a batch. There are none if it had been written before.
func (r *Recorder) wrote(batch []written, results []int64) {
	for i := range batch {
		w := &batch[i]
		if w.node == r.node {
			r.groups.done(w.group, w.step)
		}
		if i >= len(results) {
			continue
		}
		switch results[i] {
		case 1:
			r.metrics.written.WithLabelValues(string(w.kind)).Inc()
		case -1:
			r.dropped(dropFull, &w.happening)
		}
	}
	signal(r.written)
}

// run runs a script. It does not end with ctx, because only the answer tells whether it ran.
func (r *Recorder) run(ctx context.Context, s *redis.Script, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	return s.Run(ctx, r.client, []string{r.ring}, args...)
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Written is signaled when webhooks may wait in Redis.
func (r *Recorder) Written() <-chan struct{} { return r.written }
