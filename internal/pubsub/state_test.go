package pubsub_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// awaitRoles returns when the servers of all links have answered for their roles, several times.
func awaitRoles(t *testing.T, bus *pubsub.Redis) {
	t.Helper()
	for range 3 {
		start := time.Now()
		pubsubtest.Eventually(t, "an answer", func() bool { return bus.AskRoles(start) })
	}
}

// TestDeliversWhileRedisRefusesWrites: PUBLISH and SUBSCRIBE work in these states, so events flow,
// no group gets a gap, and the node is ready. A link kept alive by PING would break several times a
// second, because a server that cannot save refuses PING.
func TestDeliversWhileRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	for _, state := range redistest.States() {
		if state == redistest.ReadOnly {
			continue // a replica: see TestLinkLedToReplica
		}
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			server := redistest.StartServer(t)
			n := startNode(t, redistest.NewClient(t, server.Addr), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, PublishTimeout: calm})
			server.RefuseWrites(state)
			want := []pubsubtest.Item{pubsubtest.Message(n.kept, "before")}
			for i := range 100 {
				if i%25 == 0 {
					awaitRoles(t, n.Redis)
				}
				pubsubtest.Publish(t, n, n.kept, strconv.Itoa(i))
				want = append(want, pubsubtest.Message(n.kept, strconv.Itoa(i)))
			}
			n.sink.WaitFor(t, want[len(want)-1])
			late := testkit.Group(t, "acme", "late")
			pubsubtest.Subscribe(t, n, late)
			pubsubtest.Publish(t, n, late, "here")
			n.sink.WaitFor(t, pubsubtest.Message(late, "here"))
			if diff := cmp.Diff(want, n.sink.Of(n.kept), equalItems); diff != "" {
				t.Errorf("items differ (-want +got):\n%s", diff)
			}
			if err := n.Healthy(); err != nil {
				t.Errorf("Healthy: got %v, want nil", err)
			}
			if got := counter(t, n.reg, "orgcast_bus_reconnects_total"); got != 0 {
				t.Errorf("reconnects: got %v, want 0", got)
			}
		})
	}
}

// TestLinkLedToReplica: an operator promotes a replica, and a proxy keeps the connections to the
// former master. That server still answers, and passes on the node's canaries, as a replica without
// other publishers. The node must not report healthy, must find the new master when the proxy leads
// there, and must not leave its other connections behind.
func TestLinkLedToReplica(t *testing.T) {
	t.Parallel()
	pair := redistest.StartPair(t)
	proxy := redistest.StartProxy(t, pair.Master.Addr)
	client := redistest.NewClient(t, proxy.Addr)
	core, logs := observer.New(zap.DebugLevel)
	n := startNode(t, client, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, Log: zap.New(core)})
	want := append(n.sink.Of(n.kept), pubsubtest.Record(t, n, n.kept, event.Recording{}, "recorded")...)
	n.sink.WaitFor(t, want[1])
	pair.AwaitInStep()

	pair.Promote()
	pair.Depose()
	pubsubtest.Eventually(t, "no link to a replica", func() bool {
		n.AskRoles(time.Now())
		return errors.Is(n.Healthy(), pubsub.ErrNoLink)
	})
	pubsubtest.Eventually(t, "nor another one", func() bool {
		for _, line := range logs.FilterMessage("subscription connection lost").All() {
			if text, _ := line.ContextMap()["error"].(string); strings.Contains(text, "open: the server is a replica") {
				return true
			}
		}
		return false
	})
	if err := n.Healthy(); !errors.Is(err, pubsub.ErrNoLink) {
		t.Errorf("Healthy while the proxy leads to a replica: got %v, want %v", err, pubsub.ErrNoLink)
	}
	elsewhere := pubsub.NewRedis(redistest.NewClient(t, pair.Replica.Addr), n.keys, pubsub.Options{})
	missed := pubsubtest.Record(t, elsewhere, n.kept, event.Recording{}, texts(0, 3)...)

	proxy.Redirect(pair.Replica.Addr)
	pubsubtest.Eventually(t, "healthy at the new master", n.isHealthy)
	want = append(append(want, pubsubtest.Gap(n.kept)), missed...) // a gap for "before", which was transient
	pubsubtest.Publish(t, n, n.kept, "after")
	n.sink.WaitFor(t, pubsubtest.Message(n.kept, "after"))
	want = append(want, pubsubtest.Message(n.kept, "after"))
	if diff := cmp.Diff(want, n.sink.Of(n.kept), equalItems); diff != "" {
		t.Errorf("items differ (-want +got):\n%s", diff)
	}
}

// TestOthersStayAtFormerMaster: a master was replaced but continues as one, as it does for some
// seconds under Sentinels. The client's other connections stay there when the link leads to its
// successor. The group must get the events that only the successor has, and all the node's
// connections must lead to one server again.
func TestOthersStayAtFormerMaster(t *testing.T) {
	t.Parallel()
	for name, behind := range map[string]bool{"at other addresses": false, "behind one address": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := redistest.StartPair(t)
			proxy := redistest.StartProxy(t, pair.Master.Addr)
			var address atomic.Value // the address to dial
			address.Store(pair.Master.Addr)
			if behind {
				address.Store(proxy.Addr)
			}
			client := redis.NewClient(&redis.Options{
				DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true,
				Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
					to, _ := address.Load().(string)
					return new(net.Dialer).DialContext(ctx, network, to)
				},
			})
			t.Cleanup(func() { _ = client.Close() })
			keys, g := newKeyspace(t), testkit.Group(t, "acme", "room")
			bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, PublishTimeout: calm, HistoryTimeout: calm})
			pubsubtest.Record(t, bus, g, event.Recording{}, "early")
			var sink pubsubtest.Recorder
			pubsubtest.Start(t, bus, &sink)
			pubsubtest.Subscribe(t, bus, g)
			want := pubsubtest.Record(t, bus, g, event.Recording{}, texts(0, 2)...)
			sink.WaitFor(t, want[1])
			pair.AwaitInStep()

			pair.Promote()
			elsewhere := pubsub.NewRedis(redistest.NewClient(t, pair.Replica.Addr), keys, pubsub.Options{PublishTimeout: calm})
			want = append(want, pubsubtest.Record(t, elsewhere, g, event.Recording{}, texts(2, 3)...)...)
			proxy.Redirect(pair.Replica.Addr)
			if !behind {
				address.Store(pair.Replica.Addr)
			}
			if err := redistest.NewClient(t, pair.Master.Addr).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
			follow := redistest.NewClient(t, pair.Replica.Addr)
			pubsubtest.Eventually(t, "the group is subscribed at the successor", func() bool {
				counts, err := follow.PubSubNumSub(t.Context(), keys.GroupChannel(g)).Result()
				return err == nil && counts[keys.GroupChannel(g)] == 1
			})
			want = append(want, pubsubtest.Record(t, elsewhere, g, event.Recording{}, "live")...)
			sink.WaitFor(t, want[len(want)-1])
			if diff := cmp.Diff(want, sink.Of(g), equalItems); diff != "" {
				t.Errorf("items differ (-want +got):\n%s", diff)
			}
			pubsubtest.Eventually(t, "healthy", func() bool { return bus.Healthy() == nil })
		})
	}
}

// TestServerTellsNoRole: a node cannot use a link if it cannot find out where the link leads. The
// log says so, with advice.
func TestServerTellsNoRole(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t), Protocol: 2, DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	core, logs := observer.New(zap.DebugLevel)
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{LinkTimeout: calm, Log: zap.New(core)})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	pubsubtest.Eventually(t, "a line in the log", func() bool { return logs.Len() > 0 })
	if text, _ := logs.All()[0].ContextMap()["error"].(string); !strings.Contains(text, "RESP3 is required") || !strings.Contains(text, "protocol=2") {
		t.Errorf("error: got %q, want one that says what is needed", text)
	}
	if err := bus.Healthy(); !errors.Is(err, pubsub.ErrNoLink) {
		t.Errorf("Healthy: got %v, want %v", err, pubsub.ErrNoLink)
	}
}
