// Package quota bounds the connections that an organization has on all nodes together. Each node
// reserves connections in Redis, some at a time, so that most connections cost no round trip. A
// reservation is a lease: if a node dies, its share expires.
//
// If Redis answers but refuses to write (see [redisreply.WritesRefused]), a node admits a part of
// each limit, so that a full Redis does not keep everyone out.
//
// The limit of one organization is the field max_connections of its hash in Redis. It is read with
// each reservation, so it can be changed at run time. Without the field, the limit of [Options]
// applies. Lowering the limit does not end connections.
//
// Users without an organization, for whom the zero ID stands, count as one organization. A user
// without an organization must not be able to do what members cannot.
package quota

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/gather"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
)

const (
	// DefaultLease is how long a dead node's share stays reserved.
	DefaultLease = 15 * time.Second
	// ahead is how many connections are reserved at once if many are free.
	ahead = 64
	// timeout bounds each round trip to Redis, which normally takes a millisecond.
	timeout = 2 * time.Second
	// maxTogether is how many organizations' handshakes share a round trip, and patience how long a
	// reservation waits for the answers to earlier ones.
	maxTogether = 128
	patience    = 50 * time.Millisecond
	// While Redis refuses to write, a node without a larger share admits one of unrecordedPart
	// connections of the limit, or unrecordedLeast if that is more. The nodes do not know of each
	// other then. So together they may exceed a limit if there are more than unrecordedPart of
	// them.
	unrecordedPart, unrecordedLeast = 10, 10
)

var (
	// ErrFull is returned by Take if the organization has reached its connection limit.
	ErrFull = errors.New("quota: organization connection limit reached")
	// ErrUnavailable is returned by Take, wrapped, if Redis does not answer. It is also returned if
	// Redis refuses to write and the node has used up what it admits then.
	ErrUnavailable = errors.New("quota: Redis unavailable")
)

//go:embed reserve.lua
var reserveScript string

// Options are the options of [NewRedis]. The zero Options work.
type Options struct {
	// Limit applies to organizations without their own limit. 0 means no limit.
	Limit int
	// Lease is how long a reservation lasts. It is renewed three times in that time. Default
	// [DefaultLease].
	Lease time.Duration
	// Node names this node. Two nodes with the same name would overwrite each other's shares.
	// Default: random.
	Node string
	// Log gets failed renewals. Default: none.
	Log *zap.Logger
	// Registerer gets the metric. Default: none.
	Registerer prometheus.Registerer
}

// Redis keeps the counts in Redis. It is safe for concurrent use.
type Redis struct {
	client  redis.Cmdable
	keys    keyspace.Keyspace
	opt     Options
	limit   atomic.Int64 // of organizations without their own
	log     *zap.Logger
	script  *redis.Script
	metrics *metrics
	// together reserves for handshakes of different organizations that come at the same time. It is
	// nil in a Cluster, where the answers of an unreachable master would keep the others waiting.
	together *gather.Gatherer[reservation, struct{}]

	mu     sync.Mutex // never held during I/O
	shares map[orgctx.ID]*share
}

// share is this node's part of one organization's limit.
type share struct {
	used    int  // connections; may exceed granted only after refusals
	granted int  // by the last reservation
	limit   int  // as last known
	refused bool // Redis refused to write the last reservation
	// asking is the reservation in progress, or nil. There is only one at a time, so that this node
	// knows what Redis was told last.
	asking *question
}

// question is one reservation. full, refused and err are read after done is closed.
type question struct {
	used    int  // connections when asked; later maybe fewer, or more after refusals
	more    bool // ask for more connections, not just for used
	done    chan struct{}
	full    bool // no more are available
	refused bool // Redis refuses to write, and err says why
	err     error
}

func (o Options) withDefaults() Options {
	o.Lease = cmp.Or(o.Lease, DefaultLease)
	if o.Node == "" {
		o.Node = rand.Text()
	}
	o.Log = cmp.Or(o.Log, zap.NewNop())
	return o
}

// NewRedis returns a quota. Reservations are renewed while [Redis.Run] runs. The client needs
// ContextTimeoutEnabled, and still belongs to the caller.
func NewRedis(client redis.Cmdable, keys keyspace.Keyspace, o Options) *Redis {
	o = o.withDefaults()
	q := &Redis{
		client: client, keys: keys, opt: o, log: o.Log.Named("quota"), script: redis.NewScript(reserveScript),
		metrics: newMetrics(o.Registerer), shares: make(map[orgctx.ID]*share),
	}
	q.SetLimit(o.Limit)
	if _, single := client.(*redis.Client); single {
		q.together = gather.New(gather.Options[reservation, struct{}]{Call: q.reserveAll, Most: maxTogether, Patience: patience})
	}
	return q
}

// SetLimit replaces [Options].Limit. It applies from the next reservation of each organization on,
// which is a third of a lease away at most. It ends no connection.
func (q *Redis) SetLimit(limit int) { q.limit.Store(int64(limit)) }

// Take counts one more connection of the organization. The error is [ErrFull], [ErrUnavailable], or
// the cause of ctx. Each Take that returned nil must be followed by one Give.
func (q *Redis) Take(ctx context.Context, org orgctx.ID) error {
	for {
		q.mu.Lock()
		s := q.share(org)
		ask := s.asking
		switch {
		case ask != nil: // its answer decides
			q.mu.Unlock()
		case s.used < s.granted:
			s.used++
			refused := s.refused
			q.mu.Unlock()
			if refused {
				q.metrics.unrecorded.Inc()
			}
			return nil
		default:
			ask = s.ask(true)
			q.mu.Unlock()
			q.reserveOne(context.WithoutCancel(ctx), reservation{org, ask}) // others wait for it, too
		}
		select {
		case <-ask.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case ask.refused:
			return q.takeUnrecorded(org, ask.err)
		case ask.err != nil:
			return ask.err
		case ask.full:
			return ErrFull
		}
	}
}

// share returns this node's share of an organization. The caller holds the lock.
func (q *Redis) share(org orgctx.ID) *share {
	s := q.shares[org]
	if s == nil {
		s = &share{limit: int(q.limit.Load())}
		q.shares[org] = s
	}
	return s
}

// takeUnrecorded counts one more connection although Redis refuses to record it, unless the node
// has used up what it admits then. That is its last share, or a part of the limit if that is more.
// A renewal shrinks a share to the connections in use, so the last share alone would keep out the
// second member of an organization.
func (q *Redis) takeUnrecorded(org orgctx.ID, refusal error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.share(org)
	part := min(s.limit, max(s.limit/unrecordedPart, unrecordedLeast))
	if s.limit != 0 && s.used >= max(s.granted, part) {
		return refusal
	}
	s.used++
	q.metrics.unrecorded.Inc()
	return nil
}

// Give undoes one Take. Redis learns of it with the next renewal.
func (q *Redis) Give(org orgctx.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.shares[org]; s != nil && s.used > 0 {
		s.used--
	}
}

// Run renews the reservations until ctx ends, and then releases them all.
func (q *Redis) Run(ctx context.Context) error {
	ticker := time.NewTicker(q.opt.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			q.renew(ctx)
		case <-ctx.Done():
			q.leave(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// ask begins a reservation. The caller holds the lock.
func (s *share) ask(more bool) *question {
	s.asking = &question{used: s.used, more: more, done: make(chan struct{})}
	return s.asking
}

// renew reserves the connections in use of each organization, and no more.
func (q *Redis) renew(ctx context.Context) {
	var orgs []orgctx.ID
	var asks []*question
	q.mu.Lock()
	for org, s := range q.shares {
		if s.asking == nil { // else it is being renewed right now
			orgs, asks = append(orgs, org), append(asks, s.ask(false))
		}
	}
	q.mu.Unlock()
	if err := q.reserve(ctx, orgs, asks); err != nil {
		q.log.Warn("quota renewal failed", zap.Int("organizations", len(orgs)), zap.Error(err))
	}
}

// batch is the most reservations in one round trip.
const batch = 500

// reserve asks Redis the questions of the organizations, and answers them. In a Cluster, some may
// be answered and others not. It returns the last error.
func (q *Redis) reserve(ctx context.Context, orgs []orgctx.ID, asks []*question) error {
	var last error
	for len(orgs) > 0 {
		n := min(len(orgs), batch)
		answers := q.run(ctx, orgs[:n], asks[:n])
		q.mu.Lock()
		for i, ask := range asks[:n] {
			s := q.shares[orgs[i]]
			s.asking = nil
			a := read(answers[i])
			if a.limited {
				s.limit = a.limit
			}
			if a.err != nil {
				ask.err = fmt.Errorf("%w: %w", ErrUnavailable, a.err)
				ask.refused = redisreply.WritesRefused(a.err)
				last = ask.err
			} else {
				s.granted = a.granted
				ask.full = ask.more && a.granted <= ask.used
			}
			s.refused = ask.refused
			close(ask.done)
			if s.used == 0 && s.granted == 0 && !ask.more { // with more, the caller will take one
				delete(q.shares, orgs[i])
			}
		}
		q.mu.Unlock()
		orgs, asks = orgs[n:], asks[n:]
	}
	return last
}

// answer is what reserve.lua returns.
type answer struct {
	granted, limit int
	limited        bool // limit is known, even if err is set
	err            error
}

func read(reply *redis.Cmd) (a answer) {
	list, err := reply.Slice()
	if err == nil && len(list) != 3 {
		err = errors.New("quota: unexpected reply")
	}
	if err != nil {
		return answer{err: err}
	}
	granted, _ := list[0].(int64)
	limit, limited := list[1].(int64)
	a = answer{granted: int(granted), limit: int(limit), limited: limited}
	if text, _ := list[2].(string); text != "" {
		a.err = redisreply.Error(text)
	}
	return a
}

// run asks for organizations in one round trip, or in two if Redis, or one master of a Cluster, has
// lost its scripts.
func (q *Redis) run(ctx context.Context, orgs []orgctx.ID, asks []*question) []*redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers := make([]*redis.Cmd, len(orgs))
	if !q.evaluate(ctx, orgs, asks, answers) {
		return answers
	}
	// Each master of a Cluster gets the script, in a part of the time, so that an unreachable one
	// does not keep it from the others. Masters without the script report that again.
	loading, loaded := context.WithTimeout(ctx, timeout/4)
	_ = q.script.Load(loading, q.client).Err()
	loaded()
	q.evaluate(ctx, orgs, asks, answers)
	return answers
}

// evaluate runs the script for organizations without an answer, and for those whose server did not
// know the script. It reports whether any server still does not know it.
func (q *Redis) evaluate(ctx context.Context, orgs []orgctx.ID, asks []*question, answers []*redis.Cmd) (unknown bool) {
	pipe := q.client.Pipeline()
	for i, org := range orgs {
		if answers[i] != nil && !lacksScript(answers[i]) {
			continue
		}
		more := 0
		if asks[i].more {
			more = 1
		}
		answers[i] = q.script.EvalSha(ctx, pipe, []string{q.keys.Organization(org), q.keys.Connections(org)},
			q.opt.Node, asks[i].used, more, q.limit.Load(), q.opt.Lease.Milliseconds(), ahead)
	}
	_ = redisreply.Exec(ctx, pipe) // each answer has its own error
	return slices.ContainsFunc(answers, lacksScript)
}

// lacksScript reports whether an answer says that Redis does not know the script.
func lacksScript(answer *redis.Cmd) bool { return redis.HasErrorPrefix(answer.Err(), "NOSCRIPT") }

// leave releases this node's shares, so that other nodes need not wait for the lease. If it fails,
// they wait.
func (q *Redis) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	q.mu.Lock()
	orgs := make([]orgctx.ID, 0, len(q.shares))
	for org := range q.shares {
		orgs = append(orgs, org)
	}
	q.mu.Unlock()
	pipe := q.client.Pipeline()
	for _, org := range orgs {
		pipe.HDel(ctx, q.keys.Connections(org), q.opt.Node)
	}
	if err := redisreply.Exec(ctx, pipe); err != nil {
		q.log.Warn("quota release failed, shares expire by themselves", zap.Error(err))
	}
}
