// Package quota bounds the connections that an organization has on all nodes together. Each node
// reserves in Redis what it needs, some at a time, so that most connections cost no round trip. A
// reservation is a lease: a node that dies gives its share back by silence.
//
// While Redis answers but refuses to write (see [redisreply.WritesRefused]), a node goes on with a
// part of each limit, so that a full Redis keeps nobody out.
//
// The limit of one organization is the field max_connections of its hash in Redis, read with each
// reservation, so it can be changed at run time; without the field, that of [Options] applies.
// Lowering it ends no connection.
//
// Users without an organization, for whom the zero ID stands, count as one organization: what the
// members of one cannot do, a user who belongs to none must not do either.
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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
)

const (
	// DefaultLease is how long a dead node's share stays taken.
	DefaultLease = 15 * time.Second
	// ahead is how many connections are reserved at once where there is plenty.
	ahead = 64
	// timeout bounds each conversation with Redis, which takes a millisecond when all is well.
	timeout = 2 * time.Second
	// While Redis refuses to write, a node without a larger share admits one of unrecordedPart
	// connections of the limit, or unrecordedLeast if that is more. The nodes do not know of each
	// other then, so together they may exceed a limit, by as much as they are more than
	// unrecordedPart.
	unrecordedPart, unrecordedLeast = 10, 10
)

var (
	// ErrFull is returned by Take if the organization has reached its connection limit.
	ErrFull = errors.New("quota: organization connection limit reached")
	// ErrUnavailable is returned by Take, wrapped, if Redis had to be asked and does not answer, or
	// does not write and what a node admits then is used up.
	ErrUnavailable = errors.New("quota: Redis unavailable")
)

//go:embed reserve.lua
var reserveScript string

// Options of [NewRedis]. The zero Options work.
type Options struct {
	// Limit applies to organizations without their own. 0 is none.
	Limit int
	// Lease is how long a reservation holds; it is renewed three times as often. Default
	// [DefaultLease].
	Lease time.Duration
	// Node names this node. Two nodes of one name would take each other's shares. Default: random.
	Node string
	// Log tells of renewals that failed. Default: none.
	Log *zap.Logger
	// Registerer gets the metric. Default: none.
	Registerer prometheus.Registerer
}

// Redis keeps the count in Redis. It is safe for concurrent use.
type Redis struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	opt     Options
	log     *zap.Logger
	script  *redis.Script
	metrics *metrics

	mu     sync.Mutex // never held during I/O
	shares map[orgctx.ID]*share
}

// share is what this node has of one organization.
type share struct {
	used    int  // connections; more than granted only after refusals
	granted int  // by the last reservation
	limit   int  // when last known
	refused bool // Redis refused to write the last reservation
	// asking is the reservation under way, else nil: there is one at a time, so that what Redis
	// was told last is what this node believes.
	asking *question
}

// question is one reservation. full and err are read after done is closed.
type question struct {
	used    int  // connections when it was asked; fewer, if any, when it is answered, except for refusals
	more    bool // or just as many
	done    chan struct{}
	full    bool // no more are to be had
	refused bool // Redis does not write, and err says why
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

// NewRedis returns a quota. Reservations are renewed while [Redis.Run] runs. The client stays the
// caller's and needs ContextTimeoutEnabled.
func NewRedis(client redis.UniversalClient, keys keyspace.Keyspace, o Options) *Redis {
	o = o.withDefaults()
	return &Redis{
		client: client, keys: keys, opt: o, log: o.Log.Named("quota"), script: redis.NewScript(reserveScript),
		metrics: newMetrics(o.Registerer), shares: make(map[orgctx.ID]*share),
	}
}

// Take counts one more connection of the organization. The error is [ErrFull], [ErrUnavailable], or
// that of ctx. Each Take that returned nil is to be followed by one Give.
func (q *Redis) Take(ctx context.Context, org orgctx.ID) error {
	for {
		q.mu.Lock()
		s := q.share(org)
		ask := s.asking
		switch {
		case ask != nil: // what it is answered decides
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
			_ = q.reserve(context.WithoutCancel(ctx), []orgctx.ID{org}, []*question{ask}) // ask has the error
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

// share returns what this node has of an organization. The caller holds the lock.
func (q *Redis) share(org orgctx.ID) *share {
	s := q.shares[org]
	if s == nil {
		s = &share{limit: q.opt.Limit}
		q.shares[org] = s
	}
	return s
}

// takeUnrecorded counts one more connection although Redis does not write it down, unless the node
// has all that it admits then: its last share, or a part of the limit if that is more. A renewal
// lets a share shrink to what is used, so the last one alone would keep out the second member of an
// organization.
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

// Give takes one Take back. Redis learns of it with the next renewal.
func (q *Redis) Give(org orgctx.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.shares[org]; s != nil && s.used > 0 {
		s.used--
	}
}

// Run renews the reservations until ctx ends, and then gives them all back.
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

// renew tells Redis what this node has of each organization, no more.
func (q *Redis) renew(ctx context.Context) {
	var orgs []orgctx.ID
	var asks []*question
	q.mu.Lock()
	for org, s := range q.shares {
		if s.asking == nil { // else it is being renewed at this moment
			orgs, asks = append(orgs, org), append(asks, s.ask(false))
		}
	}
	q.mu.Unlock()
	if err := q.reserve(ctx, orgs, asks); err != nil {
		q.log.Warn("quota renewal failed", zap.Int("organizations", len(orgs)), zap.Error(err))
	}
}

// batch bounds how many reservations travel together.
const batch = 500

// reserve asks Redis what the organizations' questions ask, and answers them. In a Cluster some may
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
			if s.used == 0 && s.granted == 0 && !ask.more { // else the caller that asked is about to take
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
	limited        bool // limit is known, whatever the error
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

// run asks for organizations in one round trip, or in two after Redis, or one master of a Cluster,
// has lost its scripts.
func (q *Redis) run(ctx context.Context, orgs []orgctx.ID, asks []*question) []*redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers := make([]*redis.Cmd, len(orgs))
	if !q.evaluate(ctx, orgs, asks, answers) {
		return answers
	}
	// Each master of a Cluster gets the script, in a part of the time: one that is away must not
	// keep it from the others. Who did not get it says so again.
	loading, loaded := context.WithTimeout(ctx, timeout/4)
	_ = q.script.Load(loading, q.client).Err()
	loaded()
	q.evaluate(ctx, orgs, asks, answers)
	return answers
}

// evaluate runs the script for the organizations that have no answer yet, or one from a Redis that
// does not know it. It reports whether there are such then.
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
			q.opt.Node, asks[i].used, more, q.opt.Limit, q.opt.Lease.Milliseconds(), ahead)
	}
	_ = redisreply.Exec(ctx, pipe) // each answer has its own error
	return slices.ContainsFunc(answers, lacksScript)
}

// lacksScript reports whether an answer says that Redis does not know the script.
func lacksScript(answer *redis.Cmd) bool { return redis.HasErrorPrefix(answer.Err(), "NOSCRIPT") }

// leave gives back what this node has, so that nobody waits for the lease. If it fails they do.
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
