package quota_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/quota"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fixture is a Redis for several nodes.
type fixture struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace
}

// newFixture starts a Redis, unless it gets the address of one.
func newFixture(tb testing.TB, addr ...string) fixture {
	tb.Helper()
	var client redis.UniversalClient
	switch {
	case len(addr) == 0 && onCluster != nil:
		onCluster.Clear()
		client = onCluster.NewClient(tb)
	case len(addr) == 0:
		addr = []string{redistest.Start(tb)}
		fallthrough
	default:
		client = redistest.NewClient(tb, addr[0])
	}
	return fixture{client: client, keys: testkit.KeysUnder(tb, "quota")}
}

func (f fixture) node(o quota.Options) *quota.Redis { return quota.NewRedis(f.client, f.keys, o) }

// run runs a node's quota until the returned function is called, or the test ends.
func run(tb testing.TB, q *quota.Redis) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = q.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	tb.Cleanup(stop)
	return stop
}

// take takes connections until it is refused, and returns how many it got.
func take(tb testing.TB, q *quota.Redis, org orgctx.ID) (n int) {
	tb.Helper()
	for {
		switch err := q.Take(tb.Context(), org); {
		case errors.Is(err, quota.ErrFull):
			return n
		case err != nil:
			tb.Fatal(err)
		}
		n++
	}
}

// TestLimitOverNodes: however many ask on however many nodes, exactly the allowed number is
// admitted. Another organization has its own limit.
func TestLimitOverNodes(t *testing.T) {
	f := newFixture(t)
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	const limit = 500
	var got [2]atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		node := f.node(quota.Options{Limit: limit})
		for range 20 {
			wg.Go(func() { got[0].Add(int64(take(t, node, acme))) })
		}
		wg.Go(func() { got[1].Add(int64(take(t, node, globex))) })
	}
	wg.Wait()
	// Other nodes cannot use what a node reserved ahead until it renews. A node reserves little if
	// little is left.
	for i, name := range []string{"acme", "globex"} {
		if n := got[i].Load(); n > limit || n < limit-3 {
			t.Errorf("%s: got %d connections, want %d", name, n, limit)
		}
	}
}

// TestGivenBack: after a renewal, another node may use the connections that one node gave back.
func TestGivenBack(t *testing.T) {
	f := newFixture(t)
	org := testkit.Org(t, "acme")
	a, b := f.node(quota.Options{Limit: 10}), f.node(quota.Options{Limit: 10})
	if n := take(t, a, org); n != 10 {
		t.Fatalf("got %d, want 10", n)
	}
	if err := b.Take(t.Context(), org); !errors.Is(err, quota.ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	a.Give(org)
	a.Renew(t.Context())
	if err := b.Take(t.Context(), org); err != nil {
		t.Errorf("got %v, want the one that was given back", err)
	}
	if err := b.Take(t.Context(), org); !errors.Is(err, quota.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if err := a.Take(t.Context(), org); !errors.Is(err, quota.ErrFull) {
		t.Errorf("got %v, want ErrFull: the other node has it", err)
	}
}

// TestChangedLimit: the organization's own limit applies, from the next reservation on.
func TestChangedLimit(t *testing.T) {
	f := newFixture(t)
	org := testkit.Org(t, "acme")
	q := f.node(quota.Options{Limit: 2})
	set := func(value string) {
		t.Helper()
		if err := f.client.HSet(t.Context(), f.keys.Organization(org), "max_connections", value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		limit string
		want  int
	}{{"", 2}, {"5", 3}, {"3", 0}, {"6", 1}, {"many", 0}, {"-1", 0}, {"7", 1}} {
		set(step.limit)
		if got := take(t, q, org); got != step.want {
			t.Errorf("limit %q: got %d more, want %d", step.limit, got, step.want)
		}
	}
	set("0") // no limit
	for range 1000 {
		if err := q.Take(t.Context(), org); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeadNode: the share of a dead node becomes free.
func TestDeadNode(t *testing.T) {
	f := newFixture(t)
	org := testkit.Org(t, "acme")
	const lease = 300 * time.Millisecond
	dead, live := f.node(quota.Options{Limit: 3, Lease: lease}), f.node(quota.Options{Limit: 3})
	began := time.Now()
	if n := take(t, dead, org); n != 3 {
		t.Fatalf("got %d, want 3", n)
	}
	testkit.Eventually(t, "the lease is over", func() bool {
		err := live.Take(t.Context(), org)
		if err != nil && !errors.Is(err, quota.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
		return err == nil
	})
	if after := time.Since(began); after < lease {
		t.Errorf("the share is free after %v, want %v at least", after, lease)
	}
}

// TestRunGivesBack: a node that stops in order leaves no share behind.
func TestRunGivesBack(t *testing.T) {
	f := newFixture(t)
	org := testkit.Org(t, "acme")
	q := f.node(quota.Options{Limit: 3})
	stop := run(t, q)
	take(t, q, org)
	stop()
	if n, err := f.client.Exists(t.Context(), f.keys.Connections(org)).Result(); n != 0 || err != nil {
		t.Errorf("got %d, %v, want nothing", n, err)
	}
}

// TestRedisAway: without Redis, every waiting caller gets a clear error. If Redis comes back
// without its data, it is told again.
func TestRedisAway(t *testing.T) {
	server := redistest.StartServer(t)
	f := newFixture(t, server.Addr)
	org := testkit.Org(t, "acme")
	// A lease that is renewed each second does not expire on a machine that is busy for a while.
	q := f.node(quota.Options{Limit: 3, Lease: 3 * time.Second})
	run(t, q)
	if err := q.Take(t.Context(), org); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	testkit.Eventually(t, "the node has nothing left in advance", func() bool {
		return errors.Is(q.Take(t.Context(), org), quota.ErrUnavailable)
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := q.Take(t.Context(), org); !errors.Is(err, quota.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		})
	}
	wg.Wait()
	server.Restart()
	other := f.node(quota.Options{Limit: 3})
	testkit.Eventually(t, "the node has told Redis again", func() bool {
		n, err := f.client.HLen(t.Context(), f.keys.Connections(org)).Result()
		return err == nil && n == 1
	})
	if n := take(t, other, org); n > 2 {
		t.Errorf("got %d, want at most 2", n)
	}
}

// TestTakeEndsWithItsContext: a caller does not wait for Redis longer than its context lasts.
func TestTakeEndsWithItsContext(t *testing.T) {
	server := redistest.StartServer(t)
	f := newFixture(t, server.Addr)
	q := f.node(quota.Options{Limit: 3})
	server.Pause()
	first := make(chan error, 1)
	go func() { first <- q.Take(context.Background(), testkit.Org(t, "acme")) }() // asks, for two seconds
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := q.Take(ctx, testkit.Org(t, "acme")); err == nil {
		t.Error("got nil, want an error")
	}
	server.Resume()
	<-first
}

// TestPropertyNeverMore: after random takes, gives and renewals on three nodes, no organization
// ever has more connections than allowed, and none is refused while many are free.
func TestPropertyNeverMore(t *testing.T) {
	f := newFixture(t)
	rapid.Check(t, func(rt *rapid.T) {
		for _, org := range []string{"1", "2"} {
			if err := f.client.Del(t.Context(), f.keys.Connections(testkit.Org(t, org))).Err(); err != nil {
				rt.Fatal(err)
			}
		}
		const limit = 12
		orgs := []orgctx.ID{testkit.Org(t, "1"), testkit.Org(t, "2")}
		nodes := []*quota.Redis{f.node(quota.Options{Limit: limit}), f.node(quota.Options{Limit: limit}), f.node(quota.Options{Limit: limit})}
		has := map[orgctx.ID][]int{orgs[0]: make([]int, len(nodes)), orgs[1]: make([]int, len(nodes))}
		sum := func(org orgctx.ID) (n int) {
			for _, one := range has[org] {
				n += one
			}
			return n
		}
		rt.Repeat(map[string]func(*rapid.T){
			"take": func(rt *rapid.T) {
				org, i := rapid.SampledFrom(orgs).Draw(rt, "org"), rapid.IntRange(0, len(nodes)-1).Draw(rt, "node")
				switch err := nodes[i].Take(t.Context(), org); {
				case err == nil:
					has[org][i]++
				case !errors.Is(err, quota.ErrFull):
					rt.Fatal(err)
				case sum(org) < limit-len(nodes): // a node may hold one or so in advance
					rt.Fatalf("refused at %d of %d", sum(org), limit)
				}
			},
			"give": func(rt *rapid.T) {
				org, i := rapid.SampledFrom(orgs).Draw(rt, "org"), rapid.IntRange(0, len(nodes)-1).Draw(rt, "node")
				if has[org][i] > 0 {
					nodes[i].Give(org)
					has[org][i]--
					nodes[i].Renew(t.Context())
				}
			},
			"": func(rt *rapid.T) {
				for _, org := range orgs {
					if n := sum(org); n > limit {
						rt.Fatalf("%s has %d connections, limit %d", org, n, limit)
					}
				}
			},
		})
	})
}
