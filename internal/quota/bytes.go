package quota

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Defaults of [BytesOptions].
const (
	DefaultBytesPerOrganization = 64 << 20
	DefaultBytesPerUser         = 8 << 20
	DefaultBytesPeriod          = 24 * time.Hour
)

const (
	// limitFor is how long the limit of an organization's own counts before it is read again.
	limitFor = 5 * time.Second
	// fieldBytes is the field of the organization's hash that has it.
	fieldBytes = "max_member_bytes"
	// sweepLimits is at how many limits those are dropped that do not count any more.
	sweepLimits = 1024
)

// ErrSpent is returned by Charge if the organization or the user has written as much as they may.
var ErrSpent = errors.New("quota: bytes used up")

//go:embed charge.lua
var chargeScript string

// BytesOptions are those of [NewBytes].
type BytesOptions struct {
	// PerOrganization is how many bytes the members of an organization may have written at once, unless the
	// field max_member_bytes of its hash is a number. 0 is no limit.
	PerOrganization int64
	// PerUser is that of one user in one organization. 0 is no limit.
	PerUser int64
	// Period is the time in which a spent allowance comes back. Default [DefaultBytesPeriod], for which
	// histories keep what was written.
	Period time.Duration
	// Log tells of limits that cannot be read. Default: none.
	Log *zap.Logger
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Bytes bounds what browsers have the gateway write to Redis, over all conversations and nodes. It keeps
// a bucket for each organization and for each user in it, which refill steadily. It is safe for concurrent
// use.
type Bytes struct {
	client, state redis.UniversalClient
	keys          keyspace.Keyspace
	opt           BytesOptions
	log           *zap.Logger
	script        *redis.Script
	refused       *prometheus.CounterVec

	mu     sync.Mutex // never held during I/O
	limits map[orgctx.ID]limit
	sweep  int
}

// limit is that of one organization, as it was read.
type limit struct {
	bytes int64
	until time.Time
}

// NewBytes returns the buckets at one Redis, where the bytes are written, too. state is the one with the
// hashes of organizations, which may be the same.
func NewBytes(client, state redis.UniversalClient, keys keyspace.Keyspace, o BytesOptions) *Bytes {
	if o.Period <= 0 {
		o.Period = DefaultBytesPeriod
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Bytes{
		client: client, state: state, keys: keys, opt: o, log: o.Log.Named("quota"), script: redis.NewScript(chargeScript),
		refused: newRefused(o.Registerer), limits: make(map[orgctx.ID]limit), sweep: sweepLimits,
	}
}

// Charge charges bytes that a user of an organization is about to write. The error is [ErrSpent] if that is
// too much, or [ErrUnavailable].
func (b *Bytes) Charge(ctx context.Context, org orgctx.ID, user string, bytes int) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	perOrganization := b.limit(ctx, org)
	perUser := b.opt.PerUser
	if perOrganization == 0 && perUser == 0 {
		return nil
	}
	keys := []string{b.keys.MemberBytes(org), b.keys.MemberBytesOf(org, user)}
	full, err := b.script.Run(ctx, b.client, keys, bytes, b.opt.Period.Milliseconds(), perOrganization, perUser).Int()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case full == 1:
		b.refused.WithLabelValues("organization").Inc()
		return ErrSpent
	case full != 0:
		b.refused.WithLabelValues("user").Inc()
		return ErrSpent
	}
	return nil
}

// wholeNumber is what counts as a limit: up to 15 digits, which Lua keeps exactly.
var wholeNumber = regexp.MustCompile(`^[0-9]{1,15}$`)

// limit returns how much an organization may write. If that cannot be read it is what it was.
func (b *Bytes) limit(ctx context.Context, org orgctx.ID) int64 {
	now := time.Now()
	b.mu.Lock()
	known, ok := b.limits[org]
	b.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.bytes
	}
	text, err := b.state.HGet(ctx, b.keys.Organization(org), fieldBytes).Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		b.log.Warn("cannot read how much an organization may write", zap.Stringer("organization_id", org), zap.Error(err))
		if !ok {
			known.bytes = b.opt.PerOrganization
		}
	case wholeNumber.MatchString(text):
		known.bytes, _ = strconv.ParseInt(text, 10, 64) // cannot fail
	default:
		known.bytes = b.opt.PerOrganization
	}
	known.until = now.Add(limitFor)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limits[org] = known
	if len(b.limits) >= b.sweep {
		maps.DeleteFunc(b.limits, func(_ orgctx.ID, l limit) bool { return !now.Before(l.until) })
		b.sweep = max(sweepLimits, 2*len(b.limits))
	}
	return known.bytes
}
