package usage

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/loglimit"
	"orgcast/internal/redisreply"
)

// Meter counts on a node. Package gateway has one.
type Meter interface {
	// Measure returns what each organization has used since the last reset, and resets that if reset
	// is set. Rates are those between two calls, and a reset forgets organizations that are gone. So a
	// node has one recorder, which alone calls it.
	Measure(now time.Time, reset bool) []Share
}

// Store keeps shares.
type Store interface {
	// Write sets fields of an hour.
	Write(ctx context.Context, hour time.Time, fields map[string]string) error
}

// maxUnwritten is how many hours wait for a store that does not answer. Older ones are lost.
const maxUnwritten = 3

// Options are the options of a [Recorder]. Meter and Node are required.
type Options struct {
	Meter Meter
	// Node is the ID of the node. No two processes may have the same, also one after the other.
	Node string
	// Store keeps what is measured. Nil keeps nothing; rates are measured all the same.
	Store Store
	Log   *zap.Logger
}

// Recorder measures and writes the shares of one node.
type Recorder struct {
	opt     Options
	log     *zap.Logger
	trouble loglimit.Limiter

	// Owned by Run.
	hour      time.Time         // that is being measured
	seen      map[string]string // of that hour, as last measured
	unwritten map[time.Time]map[string]string
}

// NewRecorder returns a recorder.
func NewRecorder(o Options) *Recorder {
	o.Log = cmp.Or(o.Log, zap.NewNop())
	return &Recorder{opt: o, log: o.Log.Named("usage"), seen: make(map[string]string), unwritten: make(map[time.Time]map[string]string)}
}

// Run measures and writes until ctx ends, and then once more. It returns nil.
func (r *Recorder) Run(ctx context.Context) error {
	r.hour = hourOf(time.Now())
	for {
		now := time.Now()
		// The end of an hour is a moment of its own, so that what belongs to it is written there.
		pause := min(Interval, r.hour.Add(time.Hour).Sub(now))
		select {
		case <-time.After(max(pause, 0)):
			r.record(ctx, time.Now())
		case <-ctx.Done():
			r.record(context.WithoutCancel(ctx), time.Now())
			return nil
		}
	}
}

// hourOf returns the begin of an hour.
func hourOf(now time.Time) time.Time { return now.UTC().Truncate(time.Hour) }

// isOver reports whether the hour that is being measured is over. A clock that was put back a little
// does not begin the hour before again: that would overwrite what was written of it.
func (r *Recorder) isOver(now time.Time) bool {
	return !now.Before(r.hour.Add(time.Hour)) || now.Before(r.hour.Add(-time.Hour))
}

// writeTimeout bounds a write of shares.
const writeTimeout = 5 * time.Second

// record measures, and writes what has changed or could not be written before.
func (r *Recorder) record(ctx context.Context, now time.Time) {
	over := r.isOver(now)
	shares := r.opt.Meter.Measure(now, over)
	if r.opt.Store != nil {
		r.note(shares)
	}
	if over {
		r.hour, r.seen = hourOf(now), make(map[string]string)
	}
	r.write(ctx)
}

// note notes what has changed since the last measurement of the hour.
func (r *Recorder) note(shares []Share) {
	for _, s := range shares {
		if s.PeakConnections == 0 && s.Deliveries == 0 {
			continue
		}
		field, text := fieldOf(s.Organization, r.opt.Node), encode(s)
		if r.seen[field] == text {
			continue
		}
		r.seen[field] = text
		if r.unwritten[r.hour] == nil {
			r.unwritten[r.hour] = make(map[string]string)
		}
		r.unwritten[r.hour][field] = text
	}
}

// write writes what is unwritten, the oldest hour first.
func (r *Recorder) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	hours := slices.SortedFunc(maps.Keys(r.unwritten), time.Time.Compare)
	for i, hour := range hours {
		err := r.opt.Store.Write(ctx, hour, r.unwritten[hour])
		lost := err != nil && len(hours)-i > maxUnwritten
		if err == nil || lost {
			delete(r.unwritten, hour)
		}
		if err == nil {
			continue
		}
		if suppressed, ok := r.trouble.Allow(time.Now()); ok || lost {
			r.log.Warn("usage not written", zap.Time("hour", hour), zap.Bool("lost", lost), zap.Error(err), zap.Int("suppressed", suppressed))
		}
	}
}

// Redis is the store that all nodes share.
type Redis struct {
	client    redis.Cmdable
	keys      keyspace.Keyspace
	retention time.Duration
}

var _ Store = (*Redis)(nil)

// NewRedis returns a store that keeps each hour for so long. The client needs ContextTimeoutEnabled,
// and still belongs to the caller.
func NewRedis(client redis.Cmdable, keys keyspace.Keyspace, retention time.Duration) *Redis {
	return &Redis{client: client, keys: keys, retention: retention}
}

// fieldsAtOnce bounds the fields of one command.
const fieldsAtOnce = 1000

// Write implements [Store].
func (s *Redis) Write(ctx context.Context, hour time.Time, fields map[string]string) error {
	key := s.keys.Usage(hour)
	pipe := s.client.Pipeline()
	var values []any
	flush := func() {
		if len(values) > 0 {
			pipe.HSet(ctx, key, values...)
			values = nil
		}
	}
	for field, text := range fields {
		if values = append(values, field, text); len(values) >= 2*fieldsAtOnce {
			flush()
		}
	}
	flush()
	pipe.ExpireAt(ctx, key, hour.Add(time.Hour+s.retention))
	return redisreply.Exec(ctx, pipe)
}
