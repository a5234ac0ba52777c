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
	// limitFor is how long a limit from an organization's hash is kept before it is read again.
	limitFor = 5 * time.Second
	// fieldBytes is the field of the organization's hash that holds its limit.
	fieldBytes = "max_member_bytes"
	// sweepLimits is the number of kept limits at which expired ones are dropped.
	sweepLimits = 1024
)

// ErrSpent is returned by Charge if the organization or the user has reached its limit.
var ErrSpent = errors.New("quota: byte limit reached")

//go:embed charge.lua
var chargeScript string

// BytesOptions are the options of [NewBytes].
type BytesOptions struct {
	// PerOrganization is how many bytes the members of an organization may have written at once, unless the
	// field max_member_bytes of its hash is a number. 0 is no limit.
	PerOrganization int64
	// PerUser is the limit of one user in one organization. 0 is no limit.
	PerUser int64
	// Period is the time in which an empty bucket refills. Default [DefaultBytesPeriod], which is how long
	// histories keep what was written.
	Period time.Duration
	// Log receives failures to read a limit. Default: none.
	Log *zap.Logger
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Bytes bounds the bytes that the gateway writes to Redis for browsers, over all conversations and nodes. It
// keeps a bucket for each organization and for each of its users. Buckets refill steadily. Bytes is safe
// for concurrent use.
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

// limit is the limit of one organization, as last read.
type limit struct {
	bytes int64
	until time.Time
}

// NewBytes returns the buckets. client is the Redis to which the bytes are written, and state the one with
// the hashes of organizations. They may be the same.
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

// Charge charges bytes that are about to be written for a user of an organization. The error is [ErrSpent]
// if a limit is reached, or [ErrUnavailable].
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

// wholeNumber matches a valid limit: up to 15 digits, which Lua represents exactly.
var wholeNumber = regexp.MustCompile(`^[0-9]{1,15}$`)

// limit returns the limit of an organization. If reading it fails, the last known one still applies.
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
		b.log.Warn("reading byte limit failed", zap.Stringer("organization_id", org), zap.Error(err))
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
