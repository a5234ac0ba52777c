package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisreply"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/webhook"
)

// groupEvents returns what a receiver was told of groups, in order.
func groupEvents(r *receiver) (list []string) {
	for _, d := range r.accepted() {
		if d.Group != "" && d.User == "" {
			list = append(list, string(d.Type)+" "+d.Organization+" "+d.Group)
		}
	}
	return list
}

// expectGroups sees what a receiver was told of groups, in order for each group. It first waits until
// a node has written news of another group, behind everything else that it had to write, and nothing
// waits to be delivered.
func expectGroups(tb testing.TB, n *node, r *receiver, want ...string) {
	tb.Helper()
	marker := fmt.Sprint("room.marker", len(r.all()))
	n.comes(testkit.Group(tb, "marker", marker))
	testkit.Eventually(tb, "the marker is told", func() bool {
		return slices.ContainsFunc(r.accepted(), func(d delivery) bool { return d.Group == marker })
	})
	testkit.Eventually(tb, "nothing waits", func() bool { return n.metric("orgcast_webhooks", "waiting") == 0 })
	got := slices.DeleteFunc(groupEvents(r), func(e string) bool { return strings.Contains(e, " marker ") })
	byGroup := func(a, b string) int { return strings.Compare(a[strings.Index(a, " "):], b[strings.Index(b, " "):]) }
	slices.SortStableFunc(got, byGroup)
	slices.SortStableFunc(want, byGroup)
	if !slices.Equal(got, want) {
		tb.Errorf("got %v, want %v", got, want)
	}
}

// TestGroupsOverNodes: the first connection of any node and the last of all nodes are told, others
// are not. Groups of the same name in two organizations are two groups. A group that no pattern
// matches is not told of.
func TestGroupsOverNodes(t *testing.T) {
	client, r := redisClient(t), newReceiver(t)
	a, b := startNode(t, setup{client: client, url: r.URL}), startNode(t, setup{client: client, url: r.URL})
	room, same := testkit.Group(t, "acme", "room.1"), testkit.Group(t, "globex", "room.1")
	a.comes(room)
	expectGroups(t, a, r, "group.occupied acme room.1")
	b.comes(room)
	b.comes(same)
	b.comes(testkit.Group(t, "acme", "all"))
	expectGroups(t, b, r, "group.occupied acme room.1", "group.occupied globex room.1")
	a.leaves(room)
	pauses(t, a)
	b.leaves(same)
	pauses(t, b)
	expectGroups(t, a, r, "group.occupied acme room.1", "group.occupied globex room.1", "group.vacated globex room.1")
	b.leaves(room)
	pauses(t, b)
	expectGroups(t, b, r, "group.occupied acme room.1", "group.occupied globex room.1", "group.vacated globex room.1", "group.vacated acme room.1")
	expectSameContent(t, r)
}

// pauses waits until a node has counted itself out of all groups that it has left.
func pauses(tb testing.TB, n *node) {
	tb.Helper()
	testkit.Eventually(tb, "the node has left", func() bool {
		n.mu.Lock()
		want := 0
		for g, present := range n.present {
			if present && strings.HasPrefix(g.Name(), "room.") {
				want++
			}
		}
		n.mu.Unlock()
		return n.groupsInRedis() == want
	})
}

// TestRollingDeploymentTellsNothing: connections move from a node that stops to another one, and in a
// restart of the only node to its successor. Receivers hear nothing of it.
func TestRollingDeploymentTellsNothing(t *testing.T) {
	client, r := redisClient(t), newReceiver(t)
	options := webhook.RecorderOptions{Linger: 3 * time.Second, Beat: 50 * time.Millisecond, Dead: 3 * time.Second}
	room := testkit.Group(t, "acme", "room.1")
	before := startNode(t, setup{client: client, url: r.URL, recorder: options})
	before.comes(room)
	testkit.Eventually(t, "the group is occupied", func() bool { return len(groupEvents(r)) == 1 })
	before.leaves(room) // its connections are closed
	before.stop()
	after := startNode(t, setup{client: client, url: r.URL, recorder: options})
	after.comes(room) // and come back
	testkit.Eventually(t, "the first node is counted out", func() bool { return before.groupsInRedis() == 0 })
	expectGroups(t, after, r, "group.occupied acme room.1")
	after.leaves(room)
	pausesBy(t, after, 1) // the marker's group stays
	expectGroups(t, after, r, "group.occupied acme room.1", "group.vacated acme room.1")
}

func pausesBy(tb testing.TB, n *node, want int) {
	tb.Helper()
	testkit.Eventually(tb, "the node has left", func() bool { return n.groupsInRedis() == want })
}

// TestKilledNode: a node that was killed is counted out by the others, once, also if they are two. A
// group with connections on another node stays occupied. The node dies before it has noted the answer
// to a call, so the group of that call is vacated last.
func TestKilledNode(t *testing.T) {
	const groups = 300 // more than are taken from it at once
	addr, r := redistest.Start(t), newReceiver(t)
	client, its := redistest.NewClient(t, addr), redistest.NewClient(t, addr)
	var calls atomic.Int32
	r.answers(func(*delivery, int) int {
		if calls.Add(1) == groups {
			_ = its.Close() // the victim reaches Redis no more
		}
		return http.StatusOK
	})
	victim := startNode(t, setup{client: its, url: r.URL, final: time.Millisecond})
	for i := range groups {
		victim.comes(testkit.Group(t, "acme", fmt.Sprint("room.", i)))
	}
	testkit.Eventually(t, "all are occupied", func() bool { return len(r.of(webhook.Occupied)) == groups })
	soon := webhook.RecorderOptions{Beat: 50 * time.Millisecond, Dead: 2 * time.Second}
	b := startNode(t, setup{client: client, url: r.URL, recorder: soon})
	startNode(t, setup{client: client, url: r.URL, recorder: soon})
	b.comes(testkit.Group(t, "acme", "room.7"))
	testkit.Eventually(t, "another node has one of them", func() bool { return b.groupsInRedis() == 1 })
	testkit.Eventually(t, "its groups are vacated", func() bool { return len(r.of(webhook.Vacated)) >= groups-1 })
	expectCounts(t, client, "the victim is forgotten", victim)
	seen := make(map[string]int)
	for _, e := range groupEvents(r) {
		seen[e]++
	}
	for e, n := range seen {
		if n != 1 {
			t.Errorf("%s: told %d times", e, n)
		}
	}
	if seen["group.vacated acme room.7"] != 0 || len(seen) != 2*groups-1 {
		t.Errorf("got %d webhooks, and %d of room.7", len(seen), seen["group.vacated acme room.7"])
	}
}

// TestRedisRestartTellsNothing: Redis is away for longer than a node may be silent, and comes back
// with its data or without. Receivers hear nothing, and later what really happens.
func TestRedisRestartTellsNothing(t *testing.T) {
	t.Parallel()
	for name, keeps := range map[string]bool{"with its data": true, "without its data": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartServer(t)
			if keeps {
				s = redistest.StartServer(t, "--appendonly", "yes", "--appendfsync", "always")
			}
			r := newReceiver(t)
			options := webhook.RecorderOptions{Linger: time.Second, Beat: 20 * time.Millisecond, Dead: time.Second}
			client := redistest.NewClient(t, s.Addr)
			a, b := startNode(t, setup{client: client, url: r.URL, recorder: options}), startNode(t, setup{client: client, url: r.URL, recorder: options})
			room, other := testkit.Group(t, "acme", "room.1"), testkit.Group(t, "acme", "room.2")
			a.comes(room)
			testkit.Eventually(t, "a has the group", func() bool { return a.groupsInRedis() == 1 && len(groupEvents(r)) == 1 })
			b.comes(room)
			b.comes(other)
			testkit.Eventually(t, "both nodes have the group", func() bool { return b.groupsInRedis() == 2 && len(groupEvents(r)) == 2 })
			s.Stop()
			time.Sleep(1500 * time.Millisecond) // not to wait for something: nodes are silent for longer than Dead
			s.Restart()
			testkit.Eventually(t, "both have reported again", func() bool { return a.groupsInRedis() == 1 && b.groupsInRedis() == 2 })
			a.leaves(room)
			pausesBy(t, a, 0)
			expectGroups(t, a, r, "group.occupied acme room.1", "group.occupied acme room.2")
			b.leaves(room)
			pausesBy(t, b, 1)
			expectGroups(t, a, r, "group.occupied acme room.1", "group.occupied acme room.2", "group.vacated acme room.1")
		})
	}
}

// lostAnswers is a hook of a client that has Redis write batches and loses some of the answers.
type lostAnswers struct{ left atomic.Int32 }

func (*lostAnswers) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*lostAnswers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *lostAnswers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && cmd.Name() == "evalsha" && cmd.Args()[1] == webhook.WriteScript() && l.left.Add(-1) >= 0 {
			cmd.SetErr(os.ErrDeadlineExceeded)
			return os.ErrDeadlineExceeded
		}
		return err
	}
}

// TestAnswersAreLost: what Redis wrote although its answer was lost is not written again.
func TestAnswersAreLost(t *testing.T) {
	addr, r := redistest.Start(t), newReceiver(t)
	client := redistest.NewClient(t, addr)
	lossy := new(lostAnswers)
	client.AddHook(lossy)
	n := startNode(t, setup{client: client, url: r.URL})
	n.recorder.Connected(conn(t, "acme", "ada", "0"))
	testkit.Eventually(t, "the scripts are loaded", func() bool { return len(r.all()) == 1 && n.metric("orgcast_webhooks", "waiting") == 0 })
	lossy.left.Store(3)
	n.recorder.Connected(conn(t, "acme", "ada", "1"))
	n.comes(testkit.Group(t, "acme", "room.1"))
	n.recorder.Connected(conn(t, "acme", "ada", "2"))
	testkit.Eventually(t, "all answers are lost", func() bool { return lossy.left.Load() < 0 })
	expectGroups(t, n, r, "group.occupied acme room.1")
	seen := make(map[string]bool)
	for _, d := range r.all() {
		if d.Type != webhook.Connected {
			continue
		}
		if seen[d.Conn] {
			t.Errorf("connection %s was told of twice", d.Conn)
		}
		seen[d.Conn] = true
	}
	if len(seen) != 3 {
		t.Errorf("got %d connections, want 3", len(seen))
	}
}

// TestNodeThatJustCameBuriesNobody: a node takes others for dead only when it has itself reached Redis
// for as long as they have been silent. After an outage all have been silent.
func TestNodeThatJustCameBuriesNobody(t *testing.T) {
	client, r, keys := redisClient(t), newReceiver(t), testkit.Keys(t)
	base := strings.TrimSuffix(keys.WebhookRing(), "ring")
	silent := keys.WebhookGroups("silent")
	pipe := client.TxPipeline()
	pipe.ZAdd(t.Context(), base+"beats", redis.Z{Score: 1, Member: "silent"})
	pipe.SAdd(t.Context(), silent, "acme room.9")
	pipe.HIncrBy(t.Context(), base+"occupied", "acme room.9", 1)
	if err := redisreply.Exec(t.Context(), pipe); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{client: client, url: r.URL, recorder: webhook.RecorderOptions{Beat: 50 * time.Millisecond, Dead: 5 * time.Second}})
	n.comes(testkit.Group(t, "acme", "room.1"))
	testkit.Eventually(t, "the node has beaten and written", func() bool { return n.groupsInRedis() == 1 })
	if got := client.SCard(t.Context(), silent).Val(); got != 1 {
		t.Error("the silent node was buried at once")
	}
	testkit.Eventually(t, "it is buried in the end", func() bool { return len(r.of(webhook.Vacated)) == 1 })
}
