package webhook_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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
// group with connections on another node stays occupied.
func TestKilledNode(t *testing.T) {
	addr, r := redistest.Start(t), newReceiver(t)
	client, its := redistest.NewClient(t, addr), redistest.NewClient(t, addr)
	victim := startNode(t, setup{client: its, url: r.URL, final: time.Millisecond})
	b := startNode(t, setup{client: client, url: r.URL})
	startNode(t, setup{client: client, url: r.URL})
	for i := range 300 { // more than are taken from it at once
		victim.comes(testkit.Group(t, "acme", fmt.Sprint("room.", i)))
	}
	b.comes(testkit.Group(t, "acme", "room.7"))
	testkit.Eventually(t, "all are occupied", func() bool { return len(r.of(webhook.Occupied)) == 300 && b.groupsInRedis() == 1 })
	_ = its.Close() // it reaches Redis no more
	testkit.Eventually(t, "its groups are vacated", func() bool { return len(r.of(webhook.Vacated)) >= 299 })
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
	if seen["group.vacated acme room.7"] != 0 || len(seen) != 599 {
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
