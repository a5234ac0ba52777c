package redisclient

import (
	"errors"

	"github.com/redis/go-redis/v9"
)

// ErrNoDeadlines is returned for a client without ContextTimeoutEnabled. A hung server would hold a
// caller of it however short the caller's deadline.
var ErrNoDeadlines = errors.New("the Redis client lacks ContextTimeoutEnabled")

// CheckDeadlines returns [ErrNoDeadlines] for a client that does not keep the deadlines of its
// callers. A client of a [Connector] does. A type that is not go-redis's own is its owner's care.
//
//go:noinline
func CheckDeadlines(client redis.Cmdable) error {
	kept := true
	switch c := client.(type) {
	case *redis.Client:
		kept = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		kept = c.Options().ContextTimeoutEnabled
	}
	if !kept {
		return ErrNoDeadlines
	}
	return nil
}
