package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"orgcast/internal/bucket"
	"orgcast/internal/orgctx"
	"orgcast/internal/quota"
)

// limits counts the connections of this node, in total and by user, and asks the quota of their
// organization. A limit of 0 means no limit.
type limits struct {
	quota Quota // may be nil

	mu               sync.Mutex
	perNode, perUser int

	total     int // connections, and refusals that are being explained
	explained int // of total
	users     map[owner]int
	budgets   map[orgctx.ID]*budget

	pace  pace
	meter meter
}

// owner is a user inside an organization; equal user ids in two organizations are two owners.
type owner struct {
	org  orgctx.ID
	user string
}

func newLimits(o *Options) *limits {
	return &limits{
		perNode: o.MaxConnections, perUser: o.MaxPerUser, quota: o.Quota,
		users: make(map[owner]int), budgets: make(map[orgctx.ID]*budget),
		pace: newPace(o.HandshakesPerSecond),
	}
}

// set replaces the limits. Connections beyond a lower limit stay.
func (l *limits) set(o *Options) {
	l.mu.Lock()
	l.perNode, l.perUser = o.MaxConnections, o.MaxPerUser
	l.mu.Unlock()
	l.pace.set(o.HandshakesPerSecond)
}

// receivedBytes adds up the bytes of messages from browsers, for the metrics.
func (l *limits) receivedBytes() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total int64
	for _, b := range l.budgets {
		total += b.received.Load()
	}
	return float64(total)
}

// organizations returns how many organizations have connections.
func (l *limits) organizations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.budgets)
}

// full reports whether the node has no room, so that it can refuse a request before it looks up the
// session.
func (l *limits) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.perNode > 0 && l.total >= l.perNode
}

// count returns how many connections the node has.
func (l *limits) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// take counts a connection and returns its organization's budget, or an error for the limit that it
// would exceed.
func (l *limits) take(ctx context.Context, who owner) (*budget, error) {
	b, err := l.takeLocal(who)
	if err != nil || l.quota == nil {
		return b, err
	}
	err = l.quota.Take(ctx, who.org)
	if err == nil {
		return b, nil
	}
	l.giveLocal(who)
	if errors.Is(err, quota.ErrFull) {
		return nil, fmt.Errorf("%w: %w", ErrTooMany, err)
	}
	return nil, fmt.Errorf("%w: %w", ErrOverloaded, err)
}

// give undoes take.
func (l *limits) give(who owner) {
	l.giveLocal(who)
	if l.quota != nil {
		l.quota.Give(who.org)
	}
}

// maxExplained bounds the refusals that are explained at a time. Each costs a socket, a goroutine
// and some KiB for a stranger, for up to CloseTimeout. Further ones get a status instead.
const maxExplained = 128

// takeExplained counts a refusal that is to be explained, or returns false if there is no room for
// it. All of them together leave most of the node's room to connections.
func (l *limits) takeExplained() (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := maxExplained
	if l.perNode > 0 {
		most = min(most, max(1, l.perNode/8))
	}
	if l.explained >= most || l.perNode > 0 && l.total >= l.perNode {
		return false
	}
	l.total++
	l.explained++
	return true
}

// giveExplained undoes takeExplained.
func (l *limits) giveExplained() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	l.explained--
}

func (l *limits) takeLocal(who owner) (*budget, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.perNode > 0 && l.total >= l.perNode:
		return nil, ErrOverloaded
	case l.perUser > 0 && l.users[who] >= l.perUser:
		return nil, ErrTooMany
	}
	l.total++
	l.users[who]++ // without a limit, too, in case that a reload sets one
	b := l.budgets[who.org]
	if b == nil {
		b = newBudget(l.meter.open(who.org))
		l.budgets[who.org] = b
	}
	b.members++
	b.account.count(b.members)
	return b, nil
}

func (l *limits) giveLocal(who owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if b := l.budgets[who.org]; b != nil {
		b.members--
		b.account.count(b.members)
		if b.members == 0 {
			delete(l.budgets, who.org)
		}
	}
	if l.users[who]--; l.users[who] <= 0 {
		delete(l.users, who)
	}
}

// pace bounds handshakes per second. Each client that comes too early is told its own time to come
// back, so that they do not all come back together. It is safe for concurrent use.
type pace struct {
	started time.Time // fixed

	mu        sync.Mutex
	perSecond float64 // not above 0: no limit
	allowance bucket.Bucket
	// promised is the latest time that a client was told, since started.
	promised time.Duration
}

// maxPromise is the longest time that a client is told to wait.
const maxPromise = time.Minute

func newPace(perSecond float64) pace {
	return pace{perSecond: perSecond, started: time.Now(), allowance: bucket.New(burstOf(perSecond))}
}

// set replaces the limit.
func (p *pace) set(perSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.perSecond != perSecond {
		p.perSecond, p.allowance = perSecond, bucket.New(burstOf(perSecond))
	}
}

// burstOf is how many handshakes may come at once: those of a tenth of a second.
func burstOf(perSecond float64) int { return int(math.Ceil(perSecond / 10)) }

// take reports whether a handshake may go on now, or returns when to try again.
func (p *pace) take() (retry time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.perSecond <= 0 {
		return 0, true
	}
	now := time.Since(p.started)
	if p.allowance.Take(now, p.perSecond, burstOf(p.perSecond)) {
		return 0, true
	}
	slot := time.Duration(float64(time.Second) / p.perSecond)
	p.promised = max(p.promised, now+minReturn) + slot
	if p.promised > now+maxPromise {
		p.promised = now + minReturn
	}
	return p.promised - now, false
}
