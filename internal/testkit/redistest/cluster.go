package redistest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterSlots is how many slots every Redis Cluster has.
const clusterSlots = 16384

// Cluster is a Redis Cluster of masters and, if requested, one replica for each.
type Cluster struct {
	// Masters own the slots at first, in equal ranges, beginning with 0.
	Masters []*Server
	// Replicas are those of the Masters, in the same order, or none.
	Replicas []*Server

	tb testing.TB
}

// ClusterOptions are the options of [StartCluster]. The zero ClusterOptions mean three masters
// without replicas.
type ClusterOptions struct {
	// Replicas gives each master a replica, so that it may fail. A master that does not answer for
	// a second counts as failed.
	Replicas bool
	// Args are added to the command line of each server.
	Args []string
}

// StartCluster runs a Cluster until the test ends. It returns when all servers agree that it works
// and the replicas are in sync.
func StartCluster(tb testing.TB, o ClusterOptions) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	const masters = 3
	args := append([]string{"--cluster-node-timeout", "1000", "--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0"}, o.Args...)
	start := func() *Server { return startAnywhere(tb, &Server{args: args, bus: 1}) }
	for range masters {
		c.Masters = append(c.Masters, start())
	}
	for range masters {
		if o.Replicas {
			c.Replicas = append(c.Replicas, start())
		}
	}
	for i, s := range c.members() {
		c.must(s, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i > 0 {
			first := c.Masters[0]
			c.must(s, "CLUSTER", "MEET", "127.0.0.1", first.port, first.bus)
		}
	}
	for i, s := range c.Masters {
		c.must(s, "CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/masters, (i+1)*clusterSlots/masters-1)
	}
	for _, s := range c.members() {
		c.eventually("all members know each other", func() bool {
			return strings.Contains(ask(s.Addr, "CLUSTER", "INFO"), fmt.Sprintf("cluster_known_nodes:%d\r", len(c.members())))
		})
	}
	for i, s := range c.Replicas {
		c.eventually("a replica accepts its master", func() bool { return ask(s.Addr, "CLUSTER", "REPLICATE", c.id(c.Masters[i])) == "OK" })
	}
	for i, s := range c.Replicas {
		c.eventually("a replica is in step", func() bool {
			return strings.Contains(ask(s.Addr, "INFO", "replication"), "master_link_status:up") &&
				strings.Contains(ask(c.Masters[i].Addr, "INFO", "replication"), "state=online")
		})
	}
	for _, s := range c.members() {
		c.eventually("all members agree that the Cluster works", func() bool {
			return strings.Contains(ask(s.Addr, "CLUSTER", "INFO"), "cluster_state:ok") &&
				strings.Count(ask(s.Addr, "CLUSTER", "NODES"), "slave") == len(c.Replicas)
		})
	}
	return c
}

// NewClient returns a client of the Cluster, as [NewClient] does for a server. It notices a
// failover within a second.
func (c *Cluster) NewClient(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), ContextTimeoutEnabled: true, DialerRetries: 1, DisableRoutingPolicies: true, ClusterStateReloadInterval: time.Second,
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Addrs returns the addresses of all servers.
func (c *Cluster) Addrs() (addrs []string) {
	for _, s := range c.members() {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

func (c *Cluster) members() []*Server {
	return slices.Concat(c.Masters, c.Replicas)
}

// Owner returns the server that owns the slot of a key, or nil while the servers that answer do not
// agree.
func (c *Cluster) Owner(key string) *Server {
	c.tb.Helper()
	var owner *Server
	for _, s := range c.members() {
		answer := ask(s.Addr, "CLUSTER", "NODES")
		if answer == "" {
			continue
		}
		now := c.ownerIn(answer, c.Slot(key))
		if now == nil || owner != nil && owner != now {
			return nil
		}
		owner = now
	}
	return owner
}

// ownerIn reads one server's view.
func (c *Cluster) ownerIn(nodes string, slot int) *Server {
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 9 || !strings.Contains(fields[2], "master") || strings.Contains(fields[2], "fail") {
			continue
		}
		for _, span := range fields[8:] {
			from, to, isRange := strings.Cut(span, "-")
			if !isRange {
				to = from
			}
			low, err1 := strconv.Atoi(from)
			high, err2 := strconv.Atoi(to)
			if err1 != nil || err2 != nil || slot < low || slot > high {
				continue // another slot, or one that is being moved: [SLOT->-ID]
			}
			addr, _, _ := strings.Cut(fields[1], "@")
			for _, s := range c.members() {
				if s.Addr == addr {
					return s
				}
			}
		}
	}
	return nil
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.tb.Helper()
	slot, err := strconv.Atoi(ask(c.answering().Addr, "CLUSTER", "KEYSLOT", key))
	if err != nil {
		c.tb.Fatalf("slot of %s: %v", key, err)
	}
	return slot
}

// answering returns a server that answers.
func (c *Cluster) answering() *Server {
	for _, s := range c.members() {
		if ask(s.Addr, "PING") == "PONG" {
			return s
		}
	}
	c.tb.Helper()
	c.tb.Fatal("no member of the Cluster answers")
	return nil
}

// Failover makes the replica of a master take over in order, as an operator does for maintenance,
// and returns when all servers agree. key is one of the master's.
func (c *Cluster) Failover(key string) {
	c.tb.Helper()
	before := c.owner(key)
	for i, s := range c.Masters {
		for _, pair := range [][2]*Server{{s, c.Replicas[i]}, {c.Replicas[i], s}} {
			if pair[0] == before {
				c.eventually("the failover is accepted", func() bool { return ask(pair[1].Addr, "CLUSTER", "FAILOVER") == "OK" })
			}
		}
	}
	c.AwaitOwnerOtherThan(key, before)
}

// AwaitOwnerOtherThan returns when all servers that answer agree that another one owns the key's
// slot.
func (c *Cluster) AwaitOwnerOtherThan(key string, before *Server) {
	c.tb.Helper()
	c.eventually("another owner", func() bool { now := c.Owner(key); return now != nil && now != before })
}

// AwaitCopied returns when the replica of a key's master has all that the master has now. The key must
// have a hash tag.
func (c *Cluster) AwaitCopied(key string) {
	c.tb.Helper()
	client := newClient(c.owner(key).Addr)
	defer client.Close() //nolint:errcheck // nothing left to lose
	ctx, cancel := patience()
	defer cancel()
	conn := client.Conn() // WAIT is about what the same connection has written
	defer conn.Close()    //nolint:errcheck // likewise
	if err := conn.Set(ctx, key+":copied", "1", time.Second).Err(); err != nil {
		c.tb.Fatal(err)
	}
	c.eventually("the replica has it", func() bool { return conn.Do(ctx, "WAIT", 1, 1000).Val() == int64(1) })
}

// MoveSlot gives the slot of a key, with its data, to another master, and returns that master when
// all servers agree.
func (c *Cluster) MoveSlot(key string) (to *Server) {
	c.tb.Helper()
	slot, from := c.Slot(key), c.owner(key)
	for _, s := range c.Masters {
		if s != from && c.isMaster(s) {
			to = s
		}
	}
	c.must(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.id(from))
	c.must(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.id(to))
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		c.tb.Fatal(err)
	}
	for {
		keys := ask(from.Addr, "CLUSTER", "GETKEYSINSLOT", slot, 100)
		if keys == "" {
			break
		}
		command := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for one := range strings.SplitSeq(keys, "\n") {
			command = append(command, one)
		}
		ask(from.Addr, command...) // a key that was deleted meanwhile does not matter
	}
	c.must(to, "CLUSTER", "SETSLOT", slot, "NODE", c.id(to))
	c.must(from, "CLUSTER", "SETSLOT", slot, "NODE", c.id(to))
	c.AwaitOwnerOtherThan(key, from)
	return to
}

// Clear deletes all data and scripts.
func (c *Cluster) Clear() {
	c.tb.Helper()
	for _, s := range c.members() {
		if c.isMaster(s) {
			c.must(s, "FLUSHALL")
			c.must(s, "SCRIPT", "FLUSH")
		}
	}
}

// StopUntilEnd stops some servers, or all if none is named. They are back, empty, after the given
// test has ended.
func (c *Cluster) StopUntilEnd(tb testing.TB, some ...*Server) {
	tb.Helper()
	if len(some) == 0 {
		some = c.members()
	}
	for _, s := range some {
		s.Stop()
	}
	tb.Cleanup(func() {
		for _, s := range some {
			s.Restart()
		}
		for _, s := range c.members() {
			c.eventually("the Cluster works again", func() bool { return strings.Contains(ask(s.Addr, "CLUSTER", "INFO"), "cluster_state:ok") })
		}
	})
}

func (c *Cluster) isMaster(s *Server) bool { return strings.Contains(ask(s.Addr, "ROLE"), "master") }

// owner waits for an Owner and returns it.
func (c *Cluster) owner(key string) (s *Server) {
	c.tb.Helper()
	c.eventually("the members agree", func() bool { s = c.Owner(key); return s != nil })
	return s
}

// id returns a server's id in the Cluster.
func (c *Cluster) id(s *Server) string { return ask(s.Addr, "CLUSTER", "MYID") }

// must sends a command whose answer is OK.
func (c *Cluster) must(s *Server, command ...any) {
	c.tb.Helper()
	if got := ask(s.Addr, command...); got != "OK" {
		c.tb.Fatalf("%v at %s: got %q, want OK", command, s.Addr, got)
	}
}

func (c *Cluster) eventually(what string, condition func() bool) {
	c.tb.Helper()
	eventually(c.tb, what, condition)
}
