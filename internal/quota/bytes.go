package quota

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"sync/atomic"
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

// fieldBytes is the field of the organization's hash that holds its limit.
const fieldBytes = "max_member_bytes"

// ErrSpent is returned by Charge if the organization or the user has reached its limit.
var ErrSpent = errors.New("quota: byte limit reached")

//go:embed charge.lua
var chargeScript string

// BytesOptions are the options of [NewBytes].
type BytesOptions struct {
	// PerOrganization is how many bytes the members of an organization may write at once, unless
	// the field max_member_bytes of its hash is a number. 0 means no limit.
	PerOrganization int64
	// PerUser is the limit of one user in one organization. 0 means no limit.
	PerUser int64
	// Period is the time in which an empty bucket refills. Default [DefaultBytesPeriod], which is
	// how long histories keep events.
	Period time.Duration
	// Log receives failures to read a limit. Default: none.
	Log *zap.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Bytes bounds the bytes that the gateway writes to Redis for browsers, over all conversations and
// nodes. It keeps a bucket for each organization and for each of its users. Buckets refill
// steadily. Bytes is safe for concurrent use.
type Bytes struct {
	client  redis.Cmdable
	keys    keyspace.Keyspace
	opt     BytesOptions
	perUser atomic.Int64
	script  *redis.Script
	refused *prometheus.CounterVec
	limits  *fields
}

func (o BytesOptions) withDefaults() BytesOptions {
	o.Period = cmp.Or(o.Period, DefaultBytesPeriod)
	o.Log = cmp.Or(o.Log, zap.NewNop())
	return o
}

// NewBytes returns the buckets. client is the Redis to which the bytes are written, and state the
// one with the hashes of organizations. They may be the same.
func NewBytes(client, state redis.Cmdable, keys keyspace.Keyspace, o BytesOptions) *Bytes {
	o = o.withDefaults()
	b := &Bytes{
		client: client, keys: keys, opt: o, script: redis.NewScript(chargeScript), refused: newRefused(o.Registerer),
		limits: newFields(state, keys, o.Log.Named("quota"), field{name: fieldBytes, fallback: o.PerOrganization}),
	}
	b.perUser.Store(o.PerUser)
	return b
}

// SetLimits replaces PerOrganization and PerUser.
func (b *Bytes) SetLimits(perOrganization, perUser int64) {
	b.perUser.Store(perUser)
	b.limits.setFallbacks(perOrganization)
}

// Charge charges bytes that are about to be written for a user of an organization. The error is
// [ErrSpent] if a limit is reached, or [ErrUnavailable].
func (b *Bytes) Charge(ctx context.Context, org orgctx.ID, user string, bytes int) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	perOrganization := b.limits.read(ctx, org)[0]
	perUser := b.perUser.Load()
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
