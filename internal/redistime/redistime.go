// Package redistime knows the time by the clock of a Redis server, so that a script can be given
// the latest moment at which it may run.
//
// While a server hangs, commands queue in its sockets. When it wakes up it runs them, long after
// their senders have given up and tried again, perhaps at the server's replacement. A script that
// knows its latest moment then refuses to run, with an error that begins with [Late].
package redistime

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/redisreply"
)

// Late is the prefix of the error of a script that was run too late and did nothing.
const Late = "LATE"

// goodFor is how long a server's answer counts: in that time two clocks drift apart by some
// milliseconds.
const goodFor = time.Minute

// Clocks are the clocks of the servers that a client uses. It is safe for concurrent use.
//
// A reading is valid for a minute, by the local monotonic clock. Without a Cluster, opening a
// connection drops it, because a new connection may lead to another server. In a Cluster it is kept
// by the member's address. Scripts must be sent as a pipeline: the client has separate connections
// for pipelines, and the time is asked for on those.
type Clocks struct {
	// Fixed after construction.
	client redis.Cmdable
	member func(ctx context.Context, key string) (redis.Cmdable, string, error) // nil without a Cluster
	log    *zap.Logger
	now    func() time.Time

	mu       sync.Mutex
	readings map[string]reading // by address, "" without a Cluster
	dials    uint64             // connections that were opened, without a Cluster
}

// reading is the time that a server reported.
type reading struct {
	server  time.Time // not after the server's time at the moment taken
	taken   time.Time
	refused bool // it does not report its time
}

// New returns the clocks of a client's servers. The client gets a hook that counts its connections.
// log may be nil.
func New(client redis.Cmdable, log *zap.Logger) *Clocks {
	if log == nil {
		log = zap.NewNop()
	}
	c := &Clocks{client: client, log: log.Named("redistime"), now: time.Now, readings: make(map[string]reading)}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		c.member = func(ctx context.Context, key string) (redis.Cmdable, string, error) {
			node, err := cluster.MasterForKey(ctx, key)
			if err != nil {
				return nil, "", err
			}
			return node, node.Options().Addr, nil
		}
	} else if client, ok := client.(interface{ AddHook(hook redis.Hook) }); ok {
		client.AddHook(dialCounter{c})
	}
	return c
}

// Latest returns the deadline of ctx in milliseconds since 1970 by the clock of the server that has
// the key, as text for a script. It is empty if ctx has no deadline, or the server does not report
// its time. Then the script may run at any time. An error means that the server cannot be asked, so
// it would not have accepted the script either.
func (c *Clocks) Latest(ctx context.Context, key string) (latest string, err error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return "", nil
	}
	server, address, err := c.serverOf(ctx, key)
	if err != nil {
		return "", fmt.Errorf("time of the server: %w", err)
	}
	c.mu.Lock()
	r, ok := c.readings[address]
	dials := c.dials
	c.mu.Unlock()
	if !ok || c.now().Sub(r.taken) > goodFor {
		if r, err = c.ask(ctx, server); err != nil {
			return "", fmt.Errorf("time of the server: %w", err)
		}
		c.mu.Lock()
		if c.dials == dials { // else it may have been another server's
			c.readings[address] = r
		}
		c.mu.Unlock()
	}
	if r.refused {
		return "", nil
	}
	return strconv.FormatInt(r.server.Add(deadline.Sub(r.taken)).UnixMilli(), 10), nil
}

// Forget drops the reading of the server that has the key, after the server showed that it is
// wrong.
func (c *Clocks) Forget(ctx context.Context, key string) {
	if _, address, err := c.serverOf(ctx, key); err == nil {
		c.mu.Lock()
		delete(c.readings, address)
		c.mu.Unlock()
	}
}

// Run runs a script that may be late. args makes its arguments, given the latest moment as
// [Clocks.Latest] returns it. A script that was late is tried once more, while ctx lasts.
func (c *Clocks) Run(ctx context.Context, script *redis.Script, keys []string, args func(latest string) []any) *redis.Cmd {
	for again := true; ; again = false {
		latest, err := c.Latest(ctx, keys[0])
		if err != nil {
			cmd := redis.NewCmd(ctx)
			cmd.SetErr(err)
			return cmd
		}
		arguments := args(latest)
		cmd := alone(ctx, c.client, func(p redis.Pipeliner) *redis.Cmd { return script.EvalSha(ctx, p, keys, arguments...) })
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			cmd = alone(ctx, c.client, func(p redis.Pipeliner) *redis.Cmd { return script.Eval(ctx, p, keys, arguments...) })
		}
		if !again || !IsLate(cmd.Err()) || ctx.Err() != nil {
			return cmd
		}
		c.Forget(ctx, keys[0])
	}
}

// alone runs one command as a pipeline. The client has separate connections for pipelines, so both
// TIME and the script that depends on it use those.
func alone[C redis.Cmder](ctx context.Context, client redis.Cmdable, queue func(redis.Pipeliner) C) C {
	pipe := client.Pipeline()
	cmd := queue(pipe)
	_ = redisreply.Exec(ctx, pipe) // the command has the error
	return cmd
}

// IsLate reports whether a script was run too late and did nothing.
func IsLate(err error) bool { return redis.HasErrorPrefix(err, Late) }

// serverOf returns the client and the address of the server that has a key.
func (c *Clocks) serverOf(ctx context.Context, key string) (server redis.Cmdable, address string, err error) {
	if c.member == nil {
		return c.client, "", nil
	}
	return c.member(ctx, key)
}

// ask asks a server for its time. The reading is taken at the moment at which the answer arrives,
// so a deadline is too early by the time that the answer took, and never too late.
func (c *Clocks) ask(ctx context.Context, server redis.Cmdable) (reading, error) {
	at, err := alone(ctx, server, func(p redis.Pipeliner) *redis.TimeCmd { return p.Time(ctx) }).Result()
	now := c.now()
	switch {
	case err == nil:
		return reading{server: at, taken: now}, nil
	case redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown command"):
		c.log.Warn("server time unavailable, late commands are not refused", zap.Error(err))
		return reading{taken: now, refused: true}, nil
	default:
		return reading{}, err
	}
}

// dialCounter drops all readings when a new connection is opened.
type dialCounter struct{ clocks *Clocks }

// DialHook implements [redis.Hook].
func (d dialCounter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := next(ctx, network, address)
		if err == nil {
			d.clocks.mu.Lock()
			d.clocks.dials++
			clear(d.clocks.readings)
			d.clocks.mu.Unlock()
		}
		return conn, err
	}
}

// ProcessHook implements [redis.Hook].
func (dialCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements [redis.Hook].
func (dialCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
