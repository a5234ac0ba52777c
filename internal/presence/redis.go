package presence

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/loglimit"
	"orgcast/internal/redisreply"
)

const (
	// timeout bounds each round trip to Redis, which normally takes some milliseconds.
	timeout = 2 * time.Second
	// expiry is how long a hash is kept that no node renews. Nodes renew it with each write and each
	// audit.
	expiry = 10 * time.Minute
	// surveyEvery is how often the nodes that have a lease are listed.
	surveyEvery = 500 * time.Millisecond
	// mostSweeps is how many removals are sent at a time.
	mostSweeps = 100
)

// Each write is one script, so that a hash always has what its numbers say.
var (
	//go:embed write.lua
	writeScript string
	//go:embed sweep.lua
	sweepScript string
)

// synchronize writes, reads and compares at each tick until ctx ends. One goroutine does all of it,
// so a hash that was read is never older than this node's last write.
func (r *Room) synchronize(ctx context.Context) {
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	var trouble loglimit.Limiter
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, step := range []func(context.Context) error{r.write, r.read, r.audit, r.sweep} {
			err := step(ctx)
			if err == nil || ctx.Err() != nil {
				continue
			}
			r.metrics.failures.Inc()
			if suppressed, ok := trouble.Allow(time.Now()); ok {
				r.log.Warn("presence update failed", zap.Error(err), zap.Int("suppressed", suppressed))
			}
		}
	}
}

// write writes what has changed, and tells the other nodes.
func (r *Room) write(ctx context.Context) error {
	r.mu.Lock()
	list := r.machine.writes()
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := r.client.Pipeline()
	results := make([]*redis.Cmd, len(list))
	for i, w := range list {
		message, err := event.Marshal(w.diff)
		if err != nil {
			return err // a bug: the writes stay unanswered
		}
		results[i] = pipe.Eval(ctx, writeScript, []string{r.keys.Presence(w.group.name)}, r.arguments(w, message)...)
		r.metrics.written.Add(float64(len(w.sent)))
	}
	err := redisreply.Exec(ctx, pipe)
	errs := make([]error, len(list))
	for i, result := range results {
		errs[i] = result.Err()
	}
	r.mu.Lock()
	r.machine.wrote(list, errs)
	r.mu.Unlock()
	return wrapped("write", err)
}

// arguments returns the arguments of a write's script.
func (r *Room) arguments(w write, message []byte) []any {
	gone := make([]any, 0, len(w.diff.Gone)+1)
	for _, user := range w.diff.Gone {
		gone = append(gone, keyspace.PresenceField(w.diff.Node, user))
	}
	own, seq := keyspace.PresenceField(w.diff.Node, ""), any(w.diff.Seq)
	if w.diff.Last {
		gone, seq = append(gone, own), ""
	}
	args := []any{r.keys.PresenceChannel(w.group.name), message, expiry.Milliseconds(), own, seq, len(gone)}
	args = append(args, gone...)
	for user, e := range w.diff.Set {
		args = append(args, keyspace.PresenceField(w.diff.Node, user), e.text())
	}
	return args
}

// wrapped says what was being done.
func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// read reads the hashes that have to be read, and then asks who has a lease: a node without one at
// that time had none when it wrote, or has lost it since.
func (r *Room) read(ctx context.Context) error {
	r.mu.Lock()
	list := r.machine.reads()
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := r.client.Pipeline()
	results := make([]*redis.MapStringStringCmd, len(list))
	for i, g := range list {
		results[i] = pipe.HGetAll(ctx, r.keys.Presence(g.name))
	}
	err := redisreply.Exec(ctx, pipe)
	alive, err2 := r.alive(ctx)
	hashes := make([]hash, len(list))
	for i, result := range results {
		if result.Err() == nil && err2 == nil {
			hashes[i] = decodeHash(result.Val())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, g := range list {
		if hashes[i] == nil {
			r.machine.unloaded(g)
			continue
		}
		r.machine.load(g, hashes[i], alive, time.Now())
	}
	return wrapped("read", errors.Join(err, err2))
}

// alive returns the nodes that have a lease.
func (r *Room) alive(ctx context.Context) (map[string]struct{}, error) {
	list, err := r.nodes.List(ctx)
	if err != nil {
		return nil, err
	}
	alive := make(map[string]struct{}, len(list))
	for _, n := range list {
		alive[n.ID] = struct{}{}
	}
	return alive, nil
}

// audit compares numbers of last writes with the hashes, whose time it renews.
func (r *Room) audit(ctx context.Context) error {
	r.mu.Lock()
	list := r.machine.audits()
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := r.client.Pipeline()
	results := make([]*redis.SliceCmd, len(list))
	for i, a := range list {
		fields := make([]string, len(a.nodes))
		for j, node := range a.nodes {
			fields[j] = keyspace.PresenceField(node, "")
		}
		key := r.keys.Presence(a.group.name)
		results[i] = pipe.HMGet(ctx, key, fields...)
		pipe.PExpire(ctx, key, expiry)
	}
	err := redisreply.Exec(ctx, pipe)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, a := range list {
		values, err := results[i].Result()
		if err != nil {
			continue // asked again with the next audit
		}
		seqs := make([]uint64, len(a.nodes))
		for j := range min(len(values), len(seqs)) {
			text, _ := values[j].(string)                // nil if the field is missing
			seqs[j], _ = strconv.ParseUint(text, 10, 64) // 0 if it is
		}
		r.machine.audited(a, seqs)
	}
	return wrapped("audit", err)
}

// sweep removes what nodes without a lease have left. What fails is found again by an audit.
func (r *Room) sweep(ctx context.Context) error {
	r.mu.Lock()
	list := r.machine.sweeps
	if len(list) > mostSweeps {
		list = list[:mostSweeps:mostSweeps]
	}
	r.machine.sweeps = r.machine.sweeps[len(list):]
	r.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := r.client.Pipeline()
	for _, s := range list {
		own := keyspace.PresenceField(s.node, "")
		for users := range slices.Chunk(s.users, chunk) {
			args := []any{own, s.seq}
			for _, user := range users {
				args = append(args, keyspace.PresenceField(s.node, user))
			}
			pipe.Eval(ctx, sweepScript, []string{r.keys.Presence(s.group.name)}, args...)
		}
		if s.all {
			pipe.Eval(ctx, sweepScript, []string{r.keys.Presence(s.group.name)}, own, s.seq, own)
		}
		r.metrics.swept.Add(float64(len(s.users)))
	}
	return wrapped("sweep", redisreply.Exec(ctx, pipe))
}

// followNodes asks which nodes have a lease, until ctx ends.
func (r *Room) followNodes(ctx context.Context) {
	ticker := time.NewTicker(surveyEvery)
	defer ticker.Stop()
	for {
		asked := time.Now()
		alive, err := r.alive(ctx)
		r.mu.Lock()
		if err == nil {
			r.machine.survey(alive, asked)
		} else { // what is known stays: Redis may come back
			r.machine.unsurveyed()
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Who returns who is present in a group, whether or not anybody watches it here.
func (r *Room) Who(ctx context.Context, name event.Group) (Snapshot, error) {
	if r.client == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.machine.who(name, nil), nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fields, err := r.client.HGetAll(ctx, r.keys.Presence(name)).Result()
	if err != nil {
		return Snapshot{}, wrapped("read", err)
	}
	alive, err := r.alive(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	h := decodeHash(fields)
	now := time.Now().UnixMilli()
	for node, s := range h {
		if _, ok := alive[node]; ok {
			continue
		}
		for user, e := range s.users {
			if e.Until <= now {
				delete(s.users, user)
			}
		}
	}
	return newMachine("", r.machine.mostListed, math.MaxInt).who(name, h), nil
}
