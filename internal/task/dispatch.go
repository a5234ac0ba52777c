package task

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
)

// DefaultMemory is how long Redis remembers how a task ended. It must exceed the time that an entry
// can wait in its stream.
const DefaultMemory = 7 * 24 * time.Hour

// DefaultKeyLife is how long an idempotency key counts, the same as for recorded events.
const DefaultKeyLife = event.DefaultHistoryAge

// The default limits of an organization's waiting tasks of a kind, in tasks and bytes.
const (
	DefaultWaiting      = 10_000
	DefaultWaitingBytes = 64 << 20
)

// Dispatcher puts tasks where workers find them. It is safe for concurrent use.
type Dispatcher struct {
	client  redis.Cmdable
	keys    keyspace.Keyspace
	opt     DispatcherOptions
	metrics *dispatchMetrics

	script, withdraw *redis.Script
}

// NewDispatcher returns a Dispatcher. The caller closes the client.
func NewDispatcher(client redis.Cmdable, keys keyspace.Keyspace, o DispatcherOptions) (*Dispatcher, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	o = o.withDefaults()
	return &Dispatcher{client: client, keys: keys, opt: o, script: script("dispatch"), withdraw: script("withdraw"), metrics: newDispatchMetrics(o.Registerer)}, nil
}

// Dispatch dispatches the task and returns its ID. That is a new ID if t.ID is empty, or the ID of
// an earlier task of the same organization and kind with the same idempotency key. The organization
// is the context's. Without one, nothing happens and the error is [orgctx.ErrNoOrganization]. Other
// errors are [ErrForeign], [ErrMalformed], [ErrBacklog], or an error of Redis. After an error of
// Redis, the task may have been dispatched or not, and a second try with the same ID or idempotency
// key is safe.
func (d *Dispatcher) Dispatch(ctx context.Context, t Task) (id string, err error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return "", orgctx.ErrNoOrganization
	}
	if t.Group.IsZero() {
		return "", fmt.Errorf("%w: group", ErrMalformed)
	}
	if t.Organization() != org {
		return "", ErrForeign
	}
	if t.ID == "" {
		t.ID = rand.Text()
	}
	t.complete()
	if err := t.check(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	limit := d.opt.Limit(ctx, org)
	keys := []string{
		d.keys.Tasks(t.Kind), d.keys.TaskOnce(org, t.Kind, t.Idempotency),
		d.keys.TaskRing(t.Kind), d.keys.TaskLines(t.Kind), d.keys.TaskIdle(t.Kind),
	}
	weight := min(max(limit.Weight, 1), MaxWeight)
	args := append([]any{t.ID, d.opt.Memory.Milliseconds(), max(limit.Tasks, 0), max(limit.Bytes, 0), weight, consumerGroup}, t.fields()...)
	answer, err := d.script.Run(ctx, d.client, keys, args...).Slice()
	if err != nil || len(answer) != 2 {
		d.metrics.dispatched.WithLabelValues("failed").Inc()
		return "", fmt.Errorf("dispatch %s: %w", t.Kind, err)
	}
	id, _ = answer[0].(string)
	switch {
	case id == "":
		d.metrics.dispatched.WithLabelValues("backlog").Inc()
		return "", ErrBacklog
	case answer[1] != int64(1):
		d.metrics.dispatched.WithLabelValues("repeated").Inc()
	default:
		d.metrics.dispatched.WithLabelValues("accepted").Inc()
	}
	return id, nil
}

// Withdraw makes sure that no late or repeated try dispatches a refused task with the same
// idempotency key: Dispatch then returns [ErrBacklog]. It returns false if the task was dispatched
// already. The organization is the context's. Without one, the error is [orgctx.ErrNoOrganization].
func (d *Dispatcher) Withdraw(ctx context.Context, kind, idempotency string) (withdrawn bool, err error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return false, orgctx.ErrNoOrganization
	}
	if !orgctx.ValidID(kind) || !event.ValidGroupName(idempotency) {
		return false, fmt.Errorf("%w: kind or idempotency_key", ErrMalformed)
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	n, err := d.withdraw.Run(ctx, d.client, []string{d.keys.TaskOnce(org, kind, idempotency)}, d.opt.Memory.Milliseconds()).Int()
	if err != nil {
		return false, fmt.Errorf("withdraw %s: %w", kind, err)
	}
	return n == 1, nil
}
