package pubsub_test

import (
	"testing"
	"time"

	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit/redistest"

	"github.com/redis/go-redis/v9"
)

// TestSentinelFailover: the link follows the master, whether it was deposed in order, and so still answers
// for a while, or crashed. Recorded events that the new master has reach the group.
func TestSentinelFailover(t *testing.T) {
	for name, fail := range map[string]func(*redistest.Sentinels){
		"ordered": (*redistest.Sentinels).Failover,
		"crash": func(s *redistest.Sentinels) {
			before := s.Master()
			s.Servers[0].Stop()
			s.AwaitMasterOtherThan(before)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartSentinels(t)
			client := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: redistest.SentinelMaster, SentinelAddrs: s.Addrs, DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true,
			})
			t.Cleanup(func() { _ = client.Close() })
			n := startNode(t, client, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, CanaryInterval: 100 * time.Millisecond})
			before := pubsubtest.Record(t, n, n.kept, pubsub.RecordOptions{}, "recorded")
			n.sink.WaitFor(t, before[0])
			if err := client.Wait(t.Context(), 1, pubsubtest.Patience).Err(); err != nil {
				t.Fatal(err) // the replica has it
			}
			fail(s)

			// Whoever can, publishes at the new master.
			direct := newClient(t, s.Master())
			publisher := pubsub.NewRedis(direct, n.keys, pubsub.Options{})
			var after []pubsubtest.Item
			pubsubtest.Eventually(t, "the new master takes events", func() bool {
				position, err := publisher.Record(t.Context(), n.kept, []byte(pubsubtest.Payload(n.kept, "after")), pubsub.RecordOptions{IdempotencyKey: "after"})
				if err == nil {
					after = []pubsubtest.Item{{Group: n.kept, Payload: pubsubtest.Payload(n.kept, "after"), Position: position}}
				}
				return err == nil
			})
			n.sink.WaitFor(t, after[0])
			pubsubtest.Eventually(t, "healthy again", n.isHealthy)
			count := 0
			for _, item := range n.sink.Of(n.kept) {
				if item == after[0] || item == before[0] {
					count++
				}
			}
			if count != 2 {
				t.Errorf("recorded events: got %d deliveries of 2: %v", count, n.sink.Of(n.kept))
			}
		})
	}
}
