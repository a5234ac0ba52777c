package lease_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/lease"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// clustered is a node that listens to the control channel of a Redis Cluster.
type clustered struct {
	*redistest.Cluster

	tb        testing.TB
	world     *world
	keeper    *lease.Keeper
	announcer *lease.Announcer
	channel   string
}

// startClustered starts a node that drops a connection when it breaks, and not because the machine
// is busy.
func startClustered(t *testing.T) *clustered {
	t.Helper()
	c := &clustered{Cluster: redistest.StartCluster(t, redistest.ClusterOptions{Replicas: true}), tb: t, world: newWorld()}
	client := c.NewClient(t)
	keys := testkit.Keys(t)
	c.channel = keys.Control()
	c.keeper = start(t, c.world, 24*time.Hour, 48*time.Hour) // no periodic checks
	c.announcer = lease.NewAnnouncer(client, keys)
	control := lease.NewControl(client, keys, c.keeper, lease.ControlOptions{Timeout: testkit.Patience})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = control.Run(ctx) }) // always nil
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	testkit.Eventually(t, "the node listens", func() bool { return c.listensAt() != nil })
	return c
}

// listensAt returns the server at which the node listens, nil if it does not listen.
func (c *clustered) listensAt() *redistest.Server {
	for _, s := range slices.Concat(c.Masters, c.Replicas) {
		one := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialerRetries: 1})
		n := one.PubSubNumSub(context.Background(), c.channel).Val()[c.channel]
		_ = one.Close()
		if n > 0 {
			return s
		}
	}
	return nil
}

// disable announces that the holder's user is disabled, and repeats until Redis accepts it.
func (c *clustered) disable(h *holder) {
	testkit.Eventually(c.tb, "announced", func() bool {
		return c.announcer.Announce(context.Background(), lease.Message{Type: lease.UserDisabled, UserID: h.id.UserID}) == nil
	})
}

// expectEnded waits for the end of holders.
func (c *clustered) expectEnded(holders ...*holder) {
	c.tb.Helper()
	for _, h := range holders {
		testkit.Eventually(c.tb, h.id.UserID+" is ended", func() bool { return h.cause() != nil })
		c.keeper.Remove(&h.lease)
	}
}

// TestControlDuringClusterFailover: a server that is deposed in order still hears the control
// channel, and so does the node that listens there. No announcement is missed.
func TestControlDuringClusterFailover(t *testing.T) {
	c := startClustered(t)
	at := c.listensAt()
	key := "" // in a slot of that server
	for i := 0; key == ""; i++ {
		if name := fmt.Sprintf("key-%d", i); c.Owner(name) == at {
			key = name
		}
	}
	var holders []*holder
	for i := range 30 {
		holders = append(holders, open(t, c.keeper, fmt.Sprintf("user-%d", i), "acme", fmt.Sprintf("session-%d", i)))
	}
	var announcing sync.WaitGroup
	announcing.Go(func() {
		for _, h := range holders {
			c.disable(h)
			time.Sleep(10 * time.Millisecond) // so that some fall into the failover
		}
	})
	c.Failover(key)
	announcing.Wait()
	c.expectEnded(holders...)
	if got := c.listensAt(); got != at {
		t.Errorf("the node listens at %v, want %v as before", got, at.Addr)
	}
}

// TestControlAfterClusterCrash: if the server at which a node listens crashes, the node checks all
// connections, because it may have missed something, and then hears announcements again.
func TestControlAfterClusterCrash(t *testing.T) {
	c := startClustered(t)
	h := open(t, c.keeper, "ada", "acme", "laptop")
	c.listensAt().Stop()
	testkit.Eventually(t, "everybody is asked about", func() (asked bool) {
		c.world.change(func() { asked = c.world.asked["ticket-laptop"] > 0 })
		return asked
	})
	c.disable(h)
	c.expectEnded(h)
}
