package lease_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// listening is a node that listens to the control channel of one server.
type listening struct {
	world   *world
	keeper  *lease.Keeper
	control *lease.Control
	keys    keyspace.Keyspace
	metrics *prometheus.Registry
}

func startListening(t *testing.T, addr string, o lease.ControlOptions) *listening {
	t.Helper()
	n := &listening{world: newWorld(), metrics: prometheus.NewRegistry()}
	var err error
	n.keys = testkit.Keys(t)
	// Checks happen only when something requires them.
	n.keeper, err = lease.NewKeeper(lease.Options{Sessions: n.world, Directory: n.world, Period: 24 * time.Hour, Deadline: 48 * time.Hour, Registerer: n.metrics})
	if err != nil {
		t.Fatal(err)
	}
	n.control = lease.NewControl(redistest.NewClient(t, addr), n.keys, n.keeper, o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.keeper.Run(ctx) })  // always nil
	running.Go(func() { _ = n.control.Run(ctx) }) // always nil
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	testkit.Eventually(t, "the node listens", func() bool { return n.listensAt(t, addr) })
	return n
}

func (n *listening) listensAt(t *testing.T, addr string) bool {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	return client.PubSubNumSub(t.Context(), n.keys.Control()).Val()[n.keys.Control()] > 0
}

// metric returns the value of a metric without labels.
func (n *listening) metric(t *testing.T, name string) (value float64) {
	t.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// asksForRole returns how often a server was asked for its role.
func asksForRole(t *testing.T, client *redis.Client) (calls int) {
	t.Helper()
	text := client.InfoMap(t.Context(), "commandstats").Item("Commandstats", "cmdstat_hello")
	if _, err := fmt.Sscanf(text, "calls=%d", &calls); err != nil {
		t.Fatalf("how often HELLO was called: %q: %v", text, err)
	}
	return calls
}

// TestControlWhileRedisRefusesWrites: announcements do not need a Redis that can write.
func TestControlWhileRedisRefusesWrites(t *testing.T) {
	for _, state := range redistest.States() {
		if state == redistest.ReadOnly {
			continue // a replica: see TestControlLedToReplica
		}
		t.Run(string(state), func(t *testing.T) {
			server := redistest.StartServer(t)
			n := startListening(t, server.Addr, lease.ControlOptions{Interval: 20 * time.Millisecond, Timeout: testkit.Patience})
			client := redistest.NewClient(t, server.Addr)
			announcer := lease.NewAnnouncer(client, n.keys)
			server.RefuseWrites(state)
			for i := range 10 {
				before := asksForRole(t, client)
				testkit.Eventually(t, "the role is asked for", func() bool { return asksForRole(t, client) > before })
				h := open(t, n.keeper, fmt.Sprintf("user-%d", i), "acme", fmt.Sprintf("session-%d", i))
				if err := announcer.Announce(t.Context(), lease.Message{Type: lease.UserDisabled, UserID: h.id.UserID}); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "it is ended", func() bool { return h.cause() != nil })
				n.keeper.Remove(&h.lease)
			}
			if got := n.metric(t, "orgcast_control_reconnects_total"); got != 0 {
				t.Errorf("reconnects: got %v, want 0", got)
			}
		})
	}
}

// TestControlLedToReplica: behind a proxy that keeps connections, the former master still passes on
// the node's canaries as a replica, but no announcements reach it.
func TestControlLedToReplica(t *testing.T) {
	pair := redistest.StartPair(t)
	proxy := redistest.StartProxy(t, pair.Master.Addr)
	n := startListening(t, proxy.Addr, lease.ControlOptions{Interval: 20 * time.Millisecond, Timeout: testkit.Patience})
	h := open(t, n.keeper, "ada", "acme", "laptop")

	pair.Promote()
	pair.Depose()
	testkit.Eventually(t, "the connection is given up", func() bool { return n.metric(t, "orgcast_control_up") == 0 })
	proxy.Redirect(pair.Replica.Addr)
	testkit.Eventually(t, "the node listens at the new master", func() bool { return n.listensAt(t, pair.Replica.Addr) })
	testkit.Eventually(t, "everybody is asked about", func() (asked bool) {
		n.world.change(func() { asked = n.world.asked["ticket-laptop"] > 0 })
		return asked
	})
	announcer := lease.NewAnnouncer(redistest.NewClient(t, pair.Replica.Addr), n.keys)
	if err := announcer.Announce(t.Context(), lease.Message{Type: lease.UserDisabled, UserID: "ada"}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is ended", func() bool { return h.cause() != nil })
	n.keeper.Remove(&h.lease)
}
