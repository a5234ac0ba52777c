package redistest

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Hold is a hook of a client that keeps the first call back, so that the questions of others gather
// meanwhile, and has Redis refuse commands about one key. Add it with AddHook.
type Hold struct {
	Refused string // the key, "" for none

	once    sync.Once
	begun   chan struct{}
	release chan struct{}
}

// NewHold returns a hook.
func NewHold() *Hold { return &Hold{begun: make(chan struct{}), release: make(chan struct{})} }

// Begun is closed when the first call has begun.
func (h *Hold) Begun() <-chan struct{} { return h.begun }

// Release lets the first call go on.
func (h *Hold) Release() { close(h.release) }

// DialHook implements redis.Hook.
func (*Hold) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (h *Hold) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.wait()
		if h.refuse(cmd) {
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *Hold) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.wait()
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if h.refuse(cmd) {
				err = cmd.Err()
			}
		}
		return err
	}
}

// wait keeps the first call back.
func (h *Hold) wait() {
	h.once.Do(func() {
		close(h.begun)
		<-h.release
	})
}

// refusedError is what Redis says to a user who may not see a key.
type refusedError struct{}

// Error implements error.
func (refusedError) Error() string { return "NOPERM No permissions to access a key" }

// RedisError implements redis.Error.
func (refusedError) RedisError() {}

// refuse gives a command about the refused key an error, and reports whether it did.
func (h *Hold) refuse(cmd redis.Cmder) bool {
	if h.Refused == "" || !slices.Contains(cmd.Args(), any(h.Refused)) {
		return false
	}
	cmd.SetErr(refusedError{})
	return true
}
