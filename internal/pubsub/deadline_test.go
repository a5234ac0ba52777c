package pubsub_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit/redistest"
)

// TestDeadlinesOfItsOwn: LinkTimeout alone limits how long the link may be silent, whatever
// deadlines the client has for its commands. Short ones do not end an idle link, and without any, a
// hung server is still detected.
func TestDeadlinesOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]time.Duration{"short": 300 * time.Millisecond, "none": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.StartServer(t)
			client := redis.NewClient(&redis.Options{
				Addr: server.Addr, DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: timeout, WriteTimeout: timeout,
			})
			t.Cleanup(func() { _ = client.Close() })
			// Messages on the link are one second apart.
			const canaries = 3
			direct := redistest.NewClient(t, server.Addr)
			linked := &elsewhere{UniversalClient: client, other: direct}
			linked.diverted.Store(true) // commands for publishing get the time that they need
			n := startNode(t, linked, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: 5 * time.Second, CanaryInterval: time.Second})
			before := commandCalls(t, direct, "publish")
			pubsubtest.Eventually(t, "canaries, far apart", func() bool { return commandCalls(t, direct, "publish") >= before+canaries })
			if got := counter(t, n.reg, "orgcast_bus_reconnects_total"); got != 0 {
				t.Errorf("reconnects of a sound link: got %v, want 0", got)
			}
			server.Pause()
			pubsubtest.Eventually(t, "the link is given up", func() bool { return errors.Is(n.Healthy(), pubsub.ErrNoLink) })
			server.Resume()
			n.sink.WaitFor(t, pubsubtest.Gap(n.kept))
			pubsubtest.Eventually(t, "healthy again", n.isHealthy)
		})
	}
}
