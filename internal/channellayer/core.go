package channellayer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/channellayer/wire"
	"orgcast/internal/loglimit"
	"orgcast/internal/redislink"
	"orgcast/internal/redisreply"
)

const (
	// block is how long Redis waits for a message before it answers that there is none.
	block = time.Second
	// popped is how many messages come with one answer at most, so that large ones do not fill the
	// memory.
	popped = 32
	// full is from which number of messages on a sender may have dropped some: the capacity that
	// channels_redis has by default.
	full = 100
	// groupExpiry is how long the members of a group are kept, as in channels_redis.
	groupExpiry = 24 * time.Hour
	// fullInterval is the shortest time between two gaps because of one queue.
	fullInterval = time.Second
	// leaveTimeout bounds how long leaving the groups may take at the end.
	leaveTimeout = 2 * time.Second
)

var errStalled = errors.New("the queues were not read for too long")

// core follows the core layer.
type core struct {
	*host
	process string // what all names of this node begin with
	queues  []*queue
	read    atomic.Int64 // when the queues were last read, in Unix nanoseconds
}

// queue is one queue of the node. The goroutine that reads owns it.
type queue struct {
	key   string
	name  string    // of the channels in it, up to the exclamation mark
	owed  bool      // it was full, so its groups are owed a gap
	gapAt time.Time // when they last got one
}

// newCore returns a follower with new names. A sender looks for a queue on the server that its name
// decides, so the names are chosen such that it is this one.
func newCore(h *host) *core {
	var id [14]byte
	_, _ = rand.Read(id[:]) // never fails
	c := &core{host: h, process: "gw." + hex.EncodeToString(id[:])}
	for i := 0; len(c.queues) < h.opt.Queues; i++ {
		name := fmt.Sprintf("%s%04x!", c.process, i)
		if wire.Host(name, h.of) == h.index {
			c.queues = append(c.queues, &queue{key: wire.QueueKey(h.opt.Prefix, name), name: name})
		}
	}
	return c
}

// run follows the layer until ctx ends, and then leaves the groups.
func (c *core) run(ctx context.Context) {
	lost := loglimit.Limiter{}
	backoff := redislink.DefaultMinBackoff
	for again := false; ; again = true {
		started := time.Now()
		err := c.session(ctx, again)
		if ctx.Err() != nil {
			break
		}
		if suppressed, ok := lost.Allow(time.Now()); ok {
			c.opt.Log.Warn("channel layer connection lost", zap.Error(err), zap.Int("suppressed", suppressed))
		}
		if time.Since(started) > 10*time.Second {
			backoff = redislink.DefaultMinBackoff
		}
		select {
		case <-time.After(backoff/2 + mathrand.N(backoff)): //nolint:gosec // jitter is not a secret
		case <-ctx.Done():
		}
		backoff = min(2*backoff, redislink.DefaultMaxBackoff)
	}
	c.leaveAll(context.WithoutCancel(ctx))
}

// session follows the layer until something fails.
func (c *core) session(ctx context.Context, again bool) error {
	if err := c.reach(ctx); err != nil {
		return err
	}
	if again {
		c.metrics.reconnects.Inc()
	}
	c.read.Store(time.Now().UnixNano())
	healthy := c.reading
	c.open.Store(&healthy)
	c.groups.begin()
	defer c.groups.end()
	defer c.open.Store(nil)
	working, ctx := errgroup.WithContext(ctx)
	working.Go(func() error { return c.join(ctx) })
	working.Go(func() error { return c.receive(ctx) })
	return working.Wait()
}

// reach returns nil if the server answers.
func (c *core) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.LinkTimeout)
	defer cancel()
	return c.client.Ping(ctx).Err()
}

// reading returns nil if the queues were read recently.
func (c *core) reading() error {
	if time.Since(time.Unix(0, c.read.Load())) > block+c.opt.LinkTimeout {
		return ErrNoLink
	}
	return nil
}

// join joins and leaves groups until ctx ends, and adds the node again to those that it is in.
func (c *core) join(ctx context.Context) error {
	renewal := time.NewTimer(c.opt.RenewInterval)
	defer renewal.Stop()
	for {
		join, leave := c.groups.next(commandGroups)
		if len(join)+len(leave) > 0 {
			if err := c.enter(ctx, join, leave); err != nil {
				return err
			}
			continue
		}
		select {
		case <-c.groups.wake:
		case <-renewal.C:
			if err := c.renew(ctx); err != nil {
				return err
			}
			renewal.Reset(c.opt.RenewInterval*9/10 + mathrand.N(c.opt.RenewInterval/10+1)) //nolint:gosec // jitter is not a secret
		case <-ctx.Done():
			return nil
		}
	}
}

// enter joins and leaves groups.
func (c *core) enter(ctx context.Context, join, leave []command) error {
	pipe := c.client.Pipeline()
	c.add(ctx, pipe, join)
	c.remove(ctx, pipe, leave)
	if err := c.exec(ctx, pipe); err != nil {
		return fmt.Errorf("join groups: %w", err)
	}
	for _, g := range join {
		gaps, _ := c.groups.joined(g.name)
		c.intake.gaps(gaps)
	}
	for _, g := range leave {
		c.groups.left(g.name)
	}
	return nil
}

// renew adds the node again to its groups. A group to which it had to be added has lost events: a
// sender had removed the node.
func (c *core) renew(ctx context.Context) error {
	members := c.groups.members()
	for len(members) > 0 {
		some := members[:min(len(members), commandGroups)]
		members = members[len(some):]
		pipe := c.client.Pipeline()
		added := c.add(ctx, pipe, some)
		if err := c.exec(ctx, pipe); err != nil {
			return fmt.Errorf("renew memberships: %w", err)
		}
		for i, g := range some {
			if added[i].Val() == 0 {
				continue
			}
			if _, ok := c.groups.named(g.tag); ok { // else it was left meanwhile
				c.intake.gaps(c.groups.of(g.name))
			}
		}
	}
	return nil
}

// add adds the node to groups.
func (c *core) add(ctx context.Context, pipe redis.Pipeliner, list []command) (added []*redis.IntCmd) {
	now := float64(time.Now().UnixMicro()) / 1e6
	for _, g := range list {
		key := wire.GroupKey(c.opt.Prefix, g.name)
		added = append(added, pipe.ZAdd(ctx, key, redis.Z{Score: now, Member: c.member(g)}))
		pipe.Expire(ctx, key, groupExpiry)
	}
	return added
}

// remove removes the node from groups.
func (c *core) remove(ctx context.Context, pipe redis.Pipeliner, list []command) {
	for _, g := range list {
		pipe.ZRem(ctx, wire.GroupKey(c.opt.Prefix, g.name), c.member(g))
	}
}

// member returns the channel under which the node is a member of a group.
func (c *core) member(g command) string { return c.queues[g.queue].name + g.tag }

// exec runs a pipeline.
func (c *core) exec(ctx context.Context, pipe redis.Pipeliner) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.LinkTimeout)
	defer cancel()
	return redisreply.Exec(ctx, pipe)
}

// leaveAll removes the node from all groups.
func (c *core) leaveAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	list := c.groups.tagged()
	for len(list) > 0 {
		some := list[:min(len(list), commandGroups)]
		list = list[len(some):]
		pipe := c.client.Pipeline()
		c.remove(ctx, pipe, some)
		if err := c.exec(ctx, pipe); err != nil {
			c.opt.Log.Warn("leaving groups of the channel layer failed", zap.Error(err))
			return
		}
	}
}

// receive reads the queues until ctx ends.
func (c *core) receive(ctx context.Context) error {
	last := time.Now()
	for order := slices.Clone(c.queues); ctx.Err() == nil; {
		q, err := c.pop(ctx, order)
		now := time.Now()
		switch {
		case err != nil:
			return err
		case now.Sub(last) > block+c.opt.StallLimit:
			return errStalled
		}
		last = now
		c.read.Store(now.UnixNano())
		if i := slices.Index(order, q); i >= 0 { // the one behind it comes first now, so that none waits for a busy one
			order = append(order[i+1:len(order):len(order)], order[:i+1]...)
		}
		c.tellFull(now)
	}
	return nil
}

// pop waits for a message, and takes it with those behind it in its queue. The first queue that has
// one counts. It returns that queue, nil if there was no message.
func (c *core) pop(ctx context.Context, order []*queue) (*queue, error) {
	keys := make([]string, len(order))
	for i, q := range order {
		keys[i] = q.key
	}
	waiting, cancel := context.WithTimeout(ctx, block+c.opt.LinkTimeout)
	defer cancel()
	first, err := c.client.BZPopMin(waiting, block, keys...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // as the comment says
	}
	if err != nil {
		return nil, fmt.Errorf("read queues: %w", err)
	}
	pipe := c.client.Pipeline()
	behind := pipe.ZCard(ctx, first.Key)
	rest := pipe.ZPopMin(ctx, first.Key, popped-1)
	if err := c.exec(ctx, pipe); err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	i := slices.Index(keys, first.Key)
	if i < 0 {
		return nil, fmt.Errorf("read queues: answer for another key")
	}
	q := order[i]
	q.owed = q.owed || behind.Val()+1 >= full
	c.take(first.Z)
	for _, m := range rest.Val() {
		c.take(m)
	}
	return q, nil
}

// take takes a member of a queue.
func (c *core) take(m redis.Z) {
	if text, ok := m.Member.(string); ok {
		c.intake.queued(c.groups, []byte(text), c.named, time.Now())
	}
}

// named returns the group in which the node is a receiver.
func (c *core) named(receiver string) (name string, ok bool) {
	queue, tag, ok := wire.CutChannel(receiver)
	if !ok || !strings.HasPrefix(queue, c.process) {
		return "", false
	}
	return c.groups.named(tag)
}

// tellFull tells the groups of queues that were full.
func (c *core) tellFull(now time.Time) {
	for i, q := range c.queues {
		if q.owed && now.Sub(q.gapAt) >= fullInterval {
			q.owed, q.gapAt = false, now
			c.opt.Log.Warn("queue of the channel layer was full", zap.Int("queue", i))
			c.intake.gaps(c.groups.ofQueue(i))
		}
	}
}
