package redistest_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// client returns a client that tries once and gives up after timeout.
func client(t *testing.T, addr string, timeout time.Duration) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: timeout, DialTimeout: timeout,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestServerAnswersUntilStopped(t *testing.T) {
	s := redistest.StartServer(t)
	c := client(t, s.Addr, 5*time.Second)
	ctx := t.Context()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatalf("SET: %v", err)
	}

	s.Stop()
	s.Stop()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Fatal("PING of a stopped server: got no error, want one")
	}

	s.Restart()
	if err := client(t, s.Addr, 5*time.Second).Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Fatalf("GET after restart: got %v, want redis.Nil", err)
	}
}

func TestPersistenceOutlivesRestart(t *testing.T) {
	s := redistest.StartServer(t, "--appendonly", "yes", "--appendfsync", "always")
	ctx := t.Context()
	if err := client(t, s.Addr, 5*time.Second).Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatalf("SET: %v", err)
	}
	s.Restart()
	if got, err := client(t, s.Addr, 5*time.Second).Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("GET after restart: got %q, %v, want v", got, err)
	}
}

func TestPausedServerHangsUntilResumed(t *testing.T) {
	s := redistest.StartServer(t)
	ctx := t.Context()

	s.Pause()
	err := client(t, s.Addr, 50*time.Millisecond).Ping(ctx).Err()
	var netErr net.Error
	if !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &netErr) || !netErr.Timeout()) {
		t.Fatalf("PING of a paused server: got %v, want a timeout", err)
	}

	s.Resume()
	if err := client(t, s.Addr, 5*time.Second).Ping(ctx).Err(); err != nil {
		t.Fatalf("PING of a resumed server: %v", err)
	}
}

func TestStartTwiceGivesTwoServers(t *testing.T) {
	if a, b := redistest.Start(t), redistest.Start(t); a == b {
		t.Fatalf("two servers share %s", a)
	}
}
