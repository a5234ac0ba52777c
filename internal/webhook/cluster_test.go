package webhook_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/webhook"
)

// TestOnACluster: two nodes at a Redis Cluster deliver, count groups together, and go on after the
// master that has the lines was killed: nothing is lost, and each user's webhooks keep their order.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	const each = 20
	cluster, r := redistest.StartCluster(t, redistest.ClusterOptions{Replicas: true}), newReceiver(t)
	var away atomic.Bool
	r.answers(func(*delivery, int) int {
		if away.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	a := startNode(t, setup{client: cluster.NewClient(t), url: r.URL})
	b := startNode(t, setup{client: cluster.NewClient(t), url: r.URL})
	connect := func(from, to int) {
		for i := from; i < to; i++ {
			a.recorder.Connected(conn(t, "acme", "ada", fmt.Sprint(i)))
			b.recorder.Connected(conn(t, "globex", "alan", fmt.Sprint(i)))
		}
	}

	// Occupied once for two nodes, and vacated when both have left.
	both, other := testkit.Group(t, "acme", "room.1"), testkit.Group(t, "globex", "room.1")
	a.comes(both)
	b.comes(both)
	b.comes(other)
	connect(0, each)
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 2*each+2 && a.groupsInRedis() == 1 && b.groupsInRedis() == 2 })
	a.leaves(both)
	testkit.Eventually(t, "one node has left", func() bool { return a.groupsInRedis() == 0 })

	// The master dies while webhooks wait for a receiver, and more happens before there is another.
	away.Store(true)
	connect(each, 2*each)
	waiting := func() float64 { return a.metric("orgcast_webhooks", "waiting") }
	testkit.Eventually(t, "webhooks wait", func() bool { return waiting() == 2*each })
	key := testkit.Keys(t).WebhookRing()
	master := cluster.Owner(key)
	cluster.AwaitCopied(key)
	master.Stop()
	connect(2*each, 3*each)
	b.leaves(both)
	cluster.AwaitOwnerOtherThan(key, master)
	testkit.Eventually(t, "all wait at the new master", func() bool { return waiting() == 4*each+1 })
	away.Store(false)
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 6*each+3 && waiting() == 0 })

	for user, of := range map[string]string{"ada": "acme", "alan": "globex"} {
		n := 0
		for _, d := range r.of(webhook.Connected) {
			if d.User == user {
				if d.Conn != fmt.Sprint(n) || d.Organization != of {
					t.Fatalf("%s: got %s, want connection %d of %s", user, d.Body, n, of)
				}
				n++
			}
		}
	}
	if got := groupEvents(r); len(got) != 3 || got[2] != "group.vacated acme room.1" {
		t.Errorf("groups: got %v", got)
	}
	expectSameContent(t, r)
}
