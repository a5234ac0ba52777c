package pubsub_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestSentinelFailover: the link follows the master. The old master may have been deposed in order,
// and so still answers for a while. Or it crashed, or it hung and wakes up after it was replaced.
// Recorded events that the new master has reach the group, once.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*redistest.Sentinels){
		"ordered": (*redistest.Sentinels).Failover,
		"crash": func(s *redistest.Sentinels) {
			before := s.Master()
			s.Servers[0].Stop()
			s.AwaitMasterOtherThan(before)
		},
		"hang": func(s *redistest.Sentinels) {
			before := s.Master()
			s.Servers[0].Pause()
			s.AwaitMasterOtherThan(before)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinels(t)
			client := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: redistest.SentinelMaster, SentinelAddrs: s.Addrs, DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true,
			})
			t.Cleanup(func() { _ = client.Close() })
			n := startNode(t, client, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, CanaryInterval: 100 * time.Millisecond})
			before := pubsubtest.Record(t, n, n.kept, event.Recording{}, "recorded")
			n.sink.WaitFor(t, before[0])
			if err := client.Wait(t.Context(), 1, pubsubtest.Patience).Err(); err != nil {
				t.Fatal(err) // until the replica has it
			}
			fail(s)

			// Publishers that can do so publish at the new master.
			direct := redistest.NewClient(t, s.Master())
			publisher := pubsub.NewRedis(direct, n.keys, pubsub.Options{})
			var after []pubsubtest.Item
			pubsubtest.Eventually(t, "the new master takes events", func() bool {
				position, err := publisher.Record(t.Context(), n.kept, []byte(pubsubtest.Payload(n.kept, "after")), event.Recording{IdempotencyKey: "after"})
				if err == nil {
					after = []pubsubtest.Item{{Group: n.kept, Payload: pubsubtest.Payload(n.kept, "after"), Position: position}}
				}
				return err == nil
			})
			n.sink.WaitFor(t, after[0])
			pubsubtest.Eventually(t, "healthy again", n.isHealthy)
			if name == "hang" {
				s.Servers[0].Resume()
				pubsubtest.Eventually(t, "the former master is a replica", func() bool {
					return strings.Contains(redistest.NewClient(t, s.Servers[0].Addr).Info(t.Context(), "replication").Val(), "role:slave")
				})
				after = append(after, pubsubtest.Record(t, publisher, n.kept, event.Recording{}, "awake")...)
				n.sink.WaitFor(t, after[1])
				pubsubtest.Eventually(t, "healthy still", n.isHealthy)
			}
			want := append(before, after...)
			var got []pubsubtest.Item
			for _, item := range n.sink.Of(n.kept) {
				if !item.Position.IsZero() {
					got = append(got, item)
				}
			}
			if diff := cmp.Diff(want, got, equalItems); diff != "" {
				t.Errorf("recorded events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHungMasterReplacedByHand: a master hangs, an operator promotes its replica, and a proxy leads
// to the new master. Then the former master wakes up, with commands that publishers had sent it,
// and is not made a replica. Its events reach no group. Those recorded at the new master do, once
// and in order.
func TestHungMasterReplacedByHand(t *testing.T) {
	t.Parallel()
	pair := redistest.StartPair(t)
	proxy := redistest.StartProxy(t, pair.Master.Addr)
	n := startNode(t, redistest.NewClient(t, proxy.Addr), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, CanaryInterval: 100 * time.Millisecond})
	want := pubsubtest.Record(t, n, n.kept, event.Recording{}, "before")
	n.sink.WaitFor(t, want[0])
	pair.AwaitInStep()
	formerly := redistest.NewClient(t, pair.Master.Addr)
	if err := formerly.Ping(t.Context()).Err(); err != nil { // so it has a connection
		t.Fatal(err)
	}

	pair.Master.Pause()
	waiting := make(chan error, 1) // one result
	go func() {
		// A program that sets no latest moment, so its event is recorded late.
		ctx, cancel := context.WithTimeout(context.Background(), pubsubtest.Patience)
		defer cancel()
		waiting <- formerly.XAdd(ctx, &redis.XAddArgs{Stream: n.keys.History(n.kept), Values: []string{"event", pubsubtest.Payload(n.kept, "late")}}).Err()
	}()
	pair.Promote()
	proxy.Redirect(pair.Replica.Addr)
	publisher := pubsub.NewRedis(redistest.NewClient(t, pair.Replica.Addr), n.keys, pubsub.Options{PublishTimeout: calm})
	want = append(want, pubsubtest.Record(t, publisher, n.kept, event.Recording{}, texts(0, 20)...)...)
	n.sink.WaitFor(t, want[20])
	pubsubtest.Eventually(t, "healthy at the new master", n.isHealthy)

	pair.Master.Resume()
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	last := want[20].Position
	for _, text := range []string{"stale", "too"} { // publishers that still use it
		if err := formerly.Publish(t.Context(), n.keys.GroupChannel(n.kept), last.String()+" "+pubsubtest.Payload(n.kept, text)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	awaitRoles(t, n.Redis)
	want = append(want, pubsubtest.Record(t, publisher, n.kept, event.Recording{}, texts(20, 20)...)...)
	n.sink.WaitFor(t, want[40])
	var got []pubsubtest.Item
	for _, item := range n.sink.Of(n.kept) {
		if !item.Position.IsZero() {
			got = append(got, item)
		}
	}
	if diff := cmp.Diff(want, got, equalItems); diff != "" {
		t.Errorf("recorded events (-want +got):\n%s", diff)
	}
	events, err := n.History(t.Context(), n.kept, 100)
	if err != nil || len(events) != len(want) {
		t.Errorf("history: got %d events, %v, want those of the new master, %d", len(events), err, len(want))
	}
}

// TestFormerMasterAnswersAgain: a master hung, its replica was promoted, and a proxy leads new
// connections there. When the former master wakes up, as a master, the node's idle connections
// still lead to it. Its history has everything that was delivered to the group and nothing that the
// group missed, so it must not be asked.
func TestFormerMasterAnswersAgain(t *testing.T) {
	t.Parallel()
	pair := redistest.StartPair(t)
	proxy := redistest.StartProxy(t, pair.Master.Addr)
	client := redistest.NewClient(t, proxy.Addr)
	n := startNode(t, client, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, CanaryInterval: 100 * time.Millisecond, HistoryTimeout: calm})
	recordings := testkit.Group(t, "acme", "recordings") // no transient event came there
	pubsubtest.Record(t, n, recordings, event.Recording{}, "early")
	pubsubtest.Subscribe(t, n, recordings)
	want := pubsubtest.Record(t, n, recordings, event.Recording{}, "before")
	n.sink.WaitFor(t, want[0])
	pair.AwaitInStep()
	var idle []*redis.Conn
	for range client.Options().PoolSize {
		c := client.Conn()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	pair.Master.Pause()
	for _, c := range idle {
		_ = c.Close() // to the pool; commands use few connections meanwhile
	}
	pubsubtest.Eventually(t, "no link", func() bool { return errors.Is(n.Healthy(), pubsub.ErrNoLink) })
	pair.Promote()
	publisher := pubsub.NewRedis(redistest.NewClient(t, pair.Replica.Addr), n.keys, pubsub.Options{PublishTimeout: calm})
	want = append(want, pubsubtest.Record(t, publisher, recordings, event.Recording{}, texts(0, 5)...)...)
	proxy.Redirect(pair.Replica.Addr)
	pair.Master.Resume()
	at, channel := redistest.NewClient(t, pair.Replica.Addr), n.keys.GroupChannel(recordings)
	pubsubtest.Eventually(t, "subscribed at the new master", func() bool { return at.PubSubNumSub(t.Context(), channel).Val()[channel] == 1 })
	want = append(want, pubsubtest.Record(t, publisher, recordings, event.Recording{}, "after")...)
	n.sink.WaitFor(t, want[len(want)-1])
	if diff := cmp.Diff(want, n.sink.Of(recordings), equalItems); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}
