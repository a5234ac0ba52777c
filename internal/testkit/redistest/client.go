package redistest

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// NewClient returns a client of a server, which is closed at the end of the test. It has
// ContextTimeoutEnabled and tries once, because after PoolSize failed dials, go-redis starts a
// goroutine that outlives Close by a second.
func NewClient(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}
