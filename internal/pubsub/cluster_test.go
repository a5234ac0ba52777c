package pubsub_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func newClusterClient(tb testing.TB, c *redistest.Cluster) *redis.ClusterClient {
	tb.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true, ClusterStateReloadInterval: time.Second,
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func TestContractCluster(t *testing.T) {
	client := newClusterClient(t, redistest.StartCluster(t, redistest.ClusterOptions{}))
	pubsubtest.Run(t, func(t *testing.T) pubsubtest.Fixture {
		t.Helper()
		keys := newKeyspace(t)
		return pubsubtest.Fixture{
			Bus: pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm}),
			Inject: func(ctx context.Context, g event.Group, payload string) error {
				return client.SPublish(ctx, keys.GroupChannel(g), payload).Err()
			},
			Ahead: ahead(client, keys), Lose: lose(client, keys),
		}
	})
}

// recorder records numbered events in a group until it is stopped. It retries after a failure, with
// the same idempotency key. before holds events of the group that came earlier.
type recorder struct {
	group event.Group
	stop  context.CancelFunc
	done  chan struct{} // closed by its goroutine

	recorded atomic.Int64
	want     []pubsubtest.Item // valid after done is closed
}

func startRecorder(t *testing.T, bus pubsubtest.Bus, g event.Group, before ...pubsubtest.Item) *recorder {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &recorder{group: g, stop: stop, done: make(chan struct{}), want: before}
	go func() {
		defer close(r.done)
		for n := len(before); ctx.Err() == nil; {
			text := strconv.Itoa(n)
			position, err := bus.Record(context.Background(), g, []byte(pubsubtest.Payload(g, text)), event.Recording{IdempotencyKey: text})
			if err == nil {
				r.want = append(r.want, pubsubtest.Item{Group: g, Payload: pubsubtest.Payload(g, text), Position: position})
				n++
				r.recorded.Add(1)
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(r.finish)
	return r
}

func (r *recorder) finish() {
	r.stop()
	<-r.done
}

// mustHaveAll stops the recorder, and checks that the group got every event once and in order,
// without a gap.
func (r *recorder) mustHaveAll(t *testing.T, sink *pubsubtest.Recorder) {
	t.Helper()
	r.finish()
	if len(r.want) == 0 {
		t.Fatalf("%v: nothing recorded", r.group)
	}
	sink.WaitFor(t, r.want[len(r.want)-1])
	got := sink.Of(r.group)
	if slices.Equal(got, r.want) {
		return
	}
	gaps := len(slices.Collect(func(yield func(int) bool) {
		for i, item := range got {
			if item == pubsubtest.Gap(r.group) && !yield(i) {
				return
			}
		}
	}))
	t.Errorf("%v: got %d items with %d gaps, want %d; the first that differs is %d", r.group, len(got), gaps, len(r.want), func() int {
		for i := range min(len(got), len(r.want)) {
			if got[i] != r.want[i] {
				return i
			}
		}
		return min(len(got), len(r.want))
	}())
}

// onCluster is a bus that runs on a Cluster. It has a recorded stream in a group of each of several
// organizations, whose slots are spread over all masters.
type onCluster struct {
	*pubsub.Redis
	cluster *redistest.Cluster
	client  *redis.ClusterClient
	keys    keyspace.Keyspace
	reg     *prometheus.Registry
	sink    pubsubtest.Recorder
	streams []*recorder
}

// startOnCluster starts one that drops a link after it was silent for linkTimeout.
func startOnCluster(t *testing.T, linkTimeout time.Duration, o redistest.ClusterOptions) *onCluster {
	t.Helper()
	n := &onCluster{cluster: redistest.StartCluster(t, o), keys: newKeyspace(t), reg: prometheus.NewRegistry()}
	n.client = newClusterClient(t, n.cluster)
	brisk := pubsub.Options{
		SubscribeTimeout: pubsubtest.Patience, LinkTimeout: linkTimeout, CanaryInterval: 100 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
		Registerer: n.reg,
	}
	n.Redis = pubsub.NewRedis(n.client, n.keys, brisk)
	pubsubtest.Start(t, n, &n.sink)
	owners := make(map[*redistest.Server]bool)
	for i := range 8 {
		g := testkit.Group(t, "org"+strconv.Itoa(i), "room")
		pubsubtest.Subscribe(t, n, g)
		n.streams = append(n.streams, startRecorder(t, n, g))
		owners[n.cluster.Owner(n.key(g))] = true
	}
	if len(owners) < 3 {
		t.Fatal("the organizations are not spread over all masters")
	}
	pubsubtest.Eventually(t, "healthy at first", func() bool { return n.Healthy() == nil })
	return n
}

// key returns a name in the slot of a group.
func (n *onCluster) key(g event.Group) string { return n.keys.History(g) }

// mustHaveAll checks all streams, and checks that events flow.
func (n *onCluster) mustHaveAll(t *testing.T) {
	t.Helper()
	pubsubtest.Eventually(t, "healthy again", func() bool { return n.Healthy() == nil })
	for _, s := range n.streams {
		s.mustHaveAll(t, &n.sink)
	}
}

func (n *onCluster) reconnects(t *testing.T) float64 {
	t.Helper()
	return counter(t, n.reg, "orgcast_bus_reconnects_total")
}

// TestClusterOrderedFailover: the master that becomes a replica takes the subscriptions away, one
// by one, and go-redis does not react. They follow to the new master, and events recorded in
// between are read.
func TestClusterOrderedFailover(t *testing.T) {
	t.Parallel()
	n := startOnCluster(t, time.Second, redistest.ClusterOptions{Replicas: true})
	for _, s := range n.streams[:3] {
		n.cluster.Failover(n.key(s.group))
	}
	n.mustHaveAll(t)
}

// TestClusterSlotMoves: the slots of organizations and canaries move to another master while events
// are recorded. No group misses an event, and no link breaks.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	n := startOnCluster(t, calm, redistest.ClusterOptions{})
	for _, s := range n.streams[:3] {
		n.cluster.MoveSlot(n.key(s.group))
	}
	for _, canary := range n.Canaries() {
		n.cluster.MoveSlot(canary)
	}
	pubsubtest.Eventually(t, "other canaries", func() bool {
		for _, canary := range n.Canaries() {
			if owner := n.cluster.Owner(canary); owner == nil {
				return false
			}
		}
		return n.Healthy() == nil
	})
	n.mustHaveAll(t)
	if got := n.reconnects(t); got != 0 {
		t.Errorf("links lost: got %v, want 0", got)
	}
}

// TestClusterMasterFails: the link to a crashed master breaks, and the link to a hung master is
// dropped. The replica takes over, and the subscriptions follow. Other groups are not affected.
func TestClusterMasterFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*redistest.Server){
		"crash": (*redistest.Server).Stop,
		"hang":  (*redistest.Server).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startOnCluster(t, time.Second, redistest.ClusterOptions{Replicas: true})
			failing := n.cluster.Owner(n.key(n.streams[0].group))
			var moved, others []*recorder
			for _, s := range n.streams {
				if n.cluster.Owner(n.key(s.group)) == failing {
					s.finish() // the last events that the master acknowledged may be lost with it
					moved = append(moved, s)
				} else {
					others = append(others, s)
				}
			}
			err := n.client.ForEachMaster(t.Context(), func(ctx context.Context, master *redis.Client) error {
				return master.Wait(ctx, 1, pubsubtest.Patience).Err() // the replica has everything
			})
			if err != nil {
				t.Fatal(err)
			}
			fail(failing)
			n.cluster.AwaitOwnerOtherThan(n.key(moved[0].group), failing)
			for _, s := range moved {
				more := startRecorder(t, n, s.group, s.want...)
				pubsubtest.Eventually(t, "recorded again", func() bool { return more.recorded.Load() > 10 })
				more.mustHaveAll(t, &n.sink)
			}
			if name == "hang" {
				failing.Resume() // and still believes for a moment that it is the master
			}
			for _, s := range others {
				s.mustHaveAll(t, &n.sink)
			}
			pubsubtest.Eventually(t, "healthy again", func() bool { return n.Healthy() == nil })
		})
	}
}

// TestClusterUnderway: groups are joined and left all the time while slots move and links are cut.
// Groups that stay get every recorded event once and in order, and groups that join get events.
func TestClusterUnderway(t *testing.T) {
	t.Parallel()
	n := startOnCluster(t, calm, redistest.ClusterOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), pubsubtest.Patience)
	defer cancel()
	var wg sync.WaitGroup
	stop := make(chan struct{}) // closed when slots have moved
	for i := range 4 {
		wg.Go(func() {
			for round := 0; ; round++ {
				g := testkit.Group(t, "org"+strconv.Itoa((i+round)%8), fmt.Sprint("passing", i))
				if err := n.Subscribe(ctx, g); err != nil {
					t.Errorf("Subscribe(%v): %v", g, err)
					return
				}
				n.Unsubscribe(g)
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	for i, s := range n.streams {
		n.cluster.MoveSlot(n.key(s.group))
		if i%2 == 0 {
			continue
		}
		err := n.client.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			return master.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	n.mustHaveAll(t)
	late := testkit.Group(t, "org0", "late")
	pubsubtest.Subscribe(t, n, late)
	pubsubtest.Publish(t, n, late, "here")
	n.sink.WaitFor(t, pubsubtest.Message(late, "here"))
	for _, s := range n.streams {
		n.Unsubscribe(s.group)
	}
	n.Unsubscribe(late)
	pubsubtest.Eventually(t, "nothing is remembered", func() bool { return n.WantedGroups()+n.Meters() == 0 })
}
