package quota

import (
	"context"
	"maps"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

const (
	// limitFor is how long limits from an organization's hash are kept before they are read again.
	limitFor = 5 * time.Second
	// sweepLimits is the number of kept limits at which expired ones are dropped.
	sweepLimits = 1024
)

// field is a field of an organization's hash that holds a whole number, and the value if the field
// is missing.
type field struct {
	name     string
	fallback int64
}

// fields reads the limits of organizations from their hashes, and keeps them for a while. It is
// safe for concurrent use.
type fields struct {
	state redis.Cmdable
	keys  keyspace.Keyspace
	log   *zap.Logger
	names []string
	none  atomic.Pointer[[]int64] // the values without a hash

	mu    sync.Mutex // never held during I/O
	known map[orgctx.ID]known
	sweep int
}

// known holds the limits of one organization, as last read.
type known struct {
	values []int64 // never changed
	until  time.Time
}

// newFields returns the fields. state is the Redis that has the hashes.
func newFields(state redis.Cmdable, keys keyspace.Keyspace, log *zap.Logger, list ...field) *fields {
	f := &fields{state: state, keys: keys, log: log, known: make(map[orgctx.ID]known), sweep: sweepLimits}
	none := make([]int64, 0, len(list))
	for _, one := range list {
		f.names = append(f.names, one.name)
		none = append(none, one.fallback)
	}
	f.none.Store(&none)
	return f
}

// setFallbacks replaces the values of missing fields, in the order of the fields. All organizations
// are read again.
func (f *fields) setFallbacks(values ...int64) {
	f.none.Store(&values)
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.known)
}

// wholeNumber matches a valid limit: up to 15 digits, which Lua represents exactly.
var wholeNumber = regexp.MustCompile(`^[0-9]{1,15}$`)

// read returns the limits of an organization, in the order of the fields. If reading them fails,
// the last known limits still apply. The caller must not change the result.
func (f *fields) read(ctx context.Context, org orgctx.ID) []int64 {
	now := time.Now()
	f.mu.Lock()
	last, ok := f.known[org]
	f.mu.Unlock()
	if ok && now.Before(last.until) {
		return last.values
	}
	none := *f.none.Load()
	answer, err := f.state.HMGet(ctx, f.keys.Organization(org), f.names...).Result()
	switch {
	case err != nil || len(answer) != len(f.names):
		f.log.Warn("reading limits failed", zap.Stringer("organization_id", org), zap.Strings("fields", f.names), zap.Error(err))
		if !ok {
			last.values = none
		}
	default:
		last.values = make([]int64, len(answer))
		for i, value := range answer {
			text, _ := value.(string)
			if last.values[i] = none[i]; wholeNumber.MatchString(text) {
				last.values[i], _ = strconv.ParseInt(text, 10, 64) // cannot fail
			}
		}
	}
	last.until = now.Add(limitFor)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[org] = last
	if len(f.known) >= f.sweep {
		maps.DeleteFunc(f.known, func(_ orgctx.ID, k known) bool { return !now.Before(k.until) })
		f.sweep = max(sweepLimits, 2*len(f.known))
	}
	return last.values
}
