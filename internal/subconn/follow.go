package subconn

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// followPause is the shortest time between two times that a follower closes connections. Until a
// proxy leads elsewhere, every write is refused, and new connections do not help.
const followPause = time.Second

// follower is a hook of a client without subscriptions. It closes the client's connections if they
// lead to a replica.
type follower struct {
	*Dialer

	mu     sync.Mutex
	closed time.Time // when it last closed connections
}

var _ redis.Hook = (*follower)(nil)

// Follow makes a client notice that its server was replaced. A proxy that keeps connections leaves
// them at the former master, which has become a replica. The replica refuses writes with READONLY,
// and answers reads with old data, so a session that has ended would still be found. The client
// library closes only the connection on which it got that answer, and not even that one if a script
// caught the error. After Follow, one such answer closes all connections that were dialed before
// its command, and the next commands dial.
//
// Follow is for clients of one server, with Sentinels or without. A client with a [Dialer] for a
// subscription does not need it.
func Follow(client *redis.Client) {
	f := &follower{Dialer: &Dialer{others: make(map[*other]struct{})}}
	client.AddHook(f)
}

// ProcessHook implements [redis.Hook].
func (f *follower) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		started := time.Now()
		err := next(ctx, cmd)
		f.heed(started, err, cmd)
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (f *follower) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		started := time.Now()
		err := next(ctx, cmds)
		f.heed(started, err, cmds...)
		return err
	}
}

// heed closes all connections that were dialed before a moment if an answer says that their server
// is a replica. err is what the command or the pipeline returned, because the library sets a
// command's own error later.
func (f *follower) heed(started time.Time, err error, cmds ...redis.Cmder) {
	if !fromReplica(err) && !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return fromReplica(cmd.Err()) || caughtFromReplica(cmd) }) {
		return
	}
	f.mu.Lock()
	due := started.Sub(f.closed) >= followPause
	if due {
		f.closed = time.Now()
	}
	f.mu.Unlock()
	if due {
		f.CloseOthers(started)
	}
}

// fromReplica reports whether a command was not run because its server is a replica. Redis 6 puts
// the error of a script's command into the middle of the script's error.
func fromReplica(err error) bool {
	return err != nil && (redis.HasErrorPrefix(err, "READONLY") || strings.Contains(err.Error(), "-READONLY "))
}

// caughtFromReplica reports whether a script caught such an error and returned its text as an
// element of its answer.
func caughtFromReplica(cmd redis.Cmder) bool {
	script, ok := cmd.(*redis.Cmd)
	if !ok {
		return false
	}
	list, _ := script.Val().([]any)
	return slices.ContainsFunc(list, func(value any) bool {
		text, _ := value.(string)
		return strings.HasPrefix(text, "READONLY ")
	})
}
