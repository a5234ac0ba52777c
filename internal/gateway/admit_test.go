package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/orgctx"
	"orgcast/internal/quota"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestAdmitted(t *testing.T) {
	origins, err := gateway.ParseOrigins([]string{origin, "https://*.example.org", "http://localhost:8080", gateway.OriginMissing})
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{options: gateway.Options{Origins: origins}})
	cookie := n.cookie("ada", "acme")
	for name, h := range map[string]testkit.Handshake{
		"as listed":                            {},
		"in capitals":                          headers("Origin", "HTTPS://App.Example.COM"),
		"with a port":                          headers("Origin", "http://localhost:8080"),
		"below a wildcard":                     headers("Origin", "https://a.b.example.org"),
		"no origin where none stands":          headers("Origin"),
		"first of two cookies counts":          headers("Cookie", cookie+"; "+session.DefaultName+"=x"),
		"first cookie header counts":           headers("Cookie", cookie, session.DefaultName+"=x"),
		"among other cookies":                  headers("Cookie", "a=b; "+cookie+"; c=d"),
		"tokens in lists":                      {Header: http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}}},
		"with the longest query":               {Path: "/ws/events?" + strings.Repeat("q", 2048)},
		"with a query":                         {Path: "/ws/events?organization_id=globex"},
		"no organization where none is needed": {Path: "/ws/connection_test/", Header: http.Header{"Cookie": {n.cookie("ada", "")}}},
		"member of a second organization":      headers("Cookie", n.cookie("ada", "globex")),
	} {
		t.Run(name, func(t *testing.T) {
			if h.Path == "" {
				h.Path = "/ws/events"
			}
			h.Header = with(with(h.Header, "Origin", origin), "Cookie", cookie)
			c := testkit.Connect(t, n.dial, h)
			_ = c.SendText(`{"type":"ping"}`)
			for {
				text, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
				if text == `{"type":"pong"}` {
					return
				}
			}
		})
	}
	for _, evil := range []string{"https://example.org", "https://.example.org", "https://evilexample.org", "http://a.example.org", "https://a.example.org:8443", "https://a.example.org.evil.test", "https://evil.test/.example.org", "https://evil.test?.example.org", "https://evil.test:1.example.org/", "null", "none"} {
		if c, answer := testkit.Try(t, n.dial, testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {evil}, "Cookie": {cookie}}}); c != nil || answer.Status != http.StatusForbidden {
			t.Errorf("origin %s: got %d, want 403", evil, answer.Status)
		}
	}
}

// TestNoOrganizationNoGroups: such a connection reaches no group at all.
func TestNoOrganizationNoGroups(t *testing.T) {
	result := make(chan error, 1)
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		result <- c.Join(ctx, "all")
		return nil
	}}
	route := h.route("/ws/free")
	route.WithoutOrganization = true
	n := startNode(t, setup{routes: []consumer.Route{route}})
	n.connect("/ws/free", "ada", "")
	if err := <-result; err == nil {
		t.Error("Join: got nil, want an error")
	}
	if got := n.hub.Groups(); got != 0 {
		t.Errorf("groups: got %d, want 0", got)
	}
}

func TestRefusedByState(t *testing.T) { eachWay(t, refusedByStateOn) }

func refusedByStateOn(t *testing.T, on way) {
	t.Helper()
	t.Run("draining", func(t *testing.T) {
		n := startNode(t, on.setup())
		n.gateway.StopAdmission()
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "draining", true)
		n.expectRefused(t, n.handshake("/ws/nothing", "ada", "acme", nil), 503, "draining", true)
	})
	t.Run("node full", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{MaxConnections: 1}})
		c := n.connect("/ws/events", "ada", "acme")
		n.expectRefused(t, n.handshake("/ws/events", "grace", "globex", nil), 503, "overloaded", true)
		n.leave(c, 0)
		n.connectSoon("grace", "globex")
	})
	t.Run("user has too many", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{MaxPerUser: 2}})
		c := n.connect("/ws/events", "ada", "acme")
		n.connect("/ws/events", "ada", "acme")
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 429, "too_many_connections", true)
		n.connect("/ws/events", "alan", "acme")
		n.connect("/ws/events", "ada", "globex") // another ada, as far as acme is concerned
		n.leave(c, 3)
		n.connectSoon("ada", "acme")
	})
	t.Run("organization has too many", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{Quota: &capped{limit: 2}}})
		n.connect("/ws/events", "ada", "acme")
		c := n.connect("/ws/events", "alan", "acme")
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 429, "too_many_connections", true)
		n.connect("/ws/events", "grace", "globex")
		n.leave(c, 2)
		n.connectSoon("ada", "acme")
	})
	t.Run("users without an organization count as one", func(t *testing.T) {
		places := &capped{limit: 2}
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{Quota: places}})
		n.connect("/ws/connection_test/", "ada", "")
		c := n.connect("/ws/connection_test/", "grace", "")
		n.expectRefused(t, n.handshake("/ws/connection_test/", "alan", "", nil), 429, "too_many_connections", true)
		n.connect("/ws/events", "ada", "acme")
		n.leave(c, 2)
		testkit.Eventually(t, "its place is free", func() bool { return places.total() == 2 })
		n.connect("/ws/connection_test/", "alan", "")
	})
	t.Run("quota cannot be asked", func(t *testing.T) {
		places := &capped{limit: 1, err: quota.ErrUnavailable}
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{Quota: places, MaxPerUser: 1}})
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "overloaded", true)
		places.err = nil
		n.connect("/ws/events", "ada", "acme") // the first one does not count
	})
	t.Run("handshakes come too fast", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{HandshakesPerSecond: 0.001}})
		n.connect("/ws/events", "ada", "acme")
		n.expectRefused(t, n.handshake("/ws/nothing", "ada", "acme", nil), 404, "unknown_path", false)
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "handshake_rate", true)
		n.expectRefused(t, n.handshake("/ws/events", "grace", "globex", nil), 503, "handshake_rate", true)
	})
	t.Run("refused ones do not count", func(t *testing.T) {
		h := &hooks{connect: func(context.Context, consumer.Conn) error { return consumer.ErrForbidden }}
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{MaxPerUser: 1}, routes: []consumer.Route{h.route("/ws/no")}})
		for range 3 {
			n.expectRefused(t, n.handshake("/ws/no", "ada", "acme", nil), 403, "forbidden", false)
			n.expectRefused(t, n.handshake("/ws/nothing", "ada", "acme", nil), 404, "unknown_path", false)
		}
		n.connect("/ws/events", "ada", "acme")
	})
	t.Run("session store down", func(t *testing.T) {
		if on.store.sealed { // of which nothing can be down
			n := startNode(t, setup{over: on.over, options: gateway.Options{Sessions: unavailable{}}})
			n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "overloaded", true)
			return
		}
		n := startNode(t, on.setup())
		h := n.handshake("/ws/events", "ada", "acme", nil)
		n.vault.stop() // where there are two stores, the other one works
		n.expectRefused(t, h, 503, "overloaded", true)
		n.vault.resume()
		n.connectSoon("ada", "acme")
	})
}

// capped is a quota with a limit for every organization, on this node alone.
type capped struct {
	limit int
	err   error

	mu    sync.Mutex
	taken map[orgctx.ID]int
}

func (c *capped) Take(_ context.Context, org orgctx.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.taken[org] >= c.limit {
		return quota.ErrFull
	}
	if c.taken == nil {
		c.taken = make(map[orgctx.ID]int)
	}
	c.taken[org]++
	return nil
}

func (c *capped) Give(org orgctx.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken[org]--; c.taken[org] == 0 {
		delete(c.taken, org)
	}
}

func (c *capped) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.taken {
		n += one
	}
	return n
}

// leave closes a connection and waits until the node has noticed, so that so many are left.
func (n *node) leave(c *testkit.Client, left int) {
	n.tb.Helper()
	_ = c.Close()
	n.expectConnections(left)
}

// connectSoon connects as soon as the node lets it: a connection's place becomes free a moment
// after the connection is forgotten.
func (n *node) connectSoon(user, org string) {
	n.tb.Helper()
	h := n.handshake("/ws/events", user, org, nil)
	testkit.Eventually(n.tb, "there is room", func() bool {
		c, _ := testkit.Try(n.tb, n.dial, h)
		return c != nil
	})
}

func (n *node) expectConnections(want int) {
	n.tb.Helper()
	testkit.Eventually(n.tb, fmt.Sprintf("%d connections", want), func() bool { return n.gateway.Connections() == want })
}

// TestRealStores goes through sessions and memberships in a real Redis.
func TestRealStores(t *testing.T) {
	server := redistest.StartServer(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	keys := mustKeyspace(t)
	members, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	store, err := session.NewRedisStore(client, keys, session.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, org := range []string{"acme", "globex", "initech"} {
		status := directory.Active
		if org == "initech" {
			status = directory.Suspended
		}
		if err := client.HSet(t.Context(), keys.Organization(mustOrg(t, org)), "status", string(status)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range [][3]string{{"acme", "ada", "active"}, {"acme", "sam", "suspended"}, {"initech", "ian", "active"}} {
		if err := client.HSet(t.Context(), keys.Member(mustOrg(t, m[0]), m[1]), "status", m[2], "role", "admin").Err(); err != nil {
			t.Fatal(err)
		}
	}
	n := startNode(t, setup{options: gateway.Options{Sessions: store, Membership: members}})
	handshake := func(user, org string) testkit.Handshake {
		return n.handshake("/ws/events", "ada", "acme", http.Header{"Cookie": {mint(t, store, user, org, time.Hour)}})
	}
	for _, who := range [][2]string{{"sam", "acme"}, {"ian", "initech"}, {"ada", "nowhere"}, {"ada", "globex"}, {"ada", ""}} {
		n.expectRefused(t, handshake(who[0], who[1]), 403, "forbidden", false)
	}
	n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 401, "unauthenticated", false) // a cookie of the other store
	good := handshake("ada", "acme")
	c := testkit.Connect(t, n.dial, good)
	_ = c.SendText(`{"type":"subscribe","group":"role.admin"}`)
	c.Expect(t, `{"type":"subscribed","group":"role.admin"}`)
	server.Stop()
	n.expectRefused(t, good, 503, "overloaded", true)
	_ = c.SendText(`{"type":"ping"}`) // who is connected stays so
	c.Expect(t, `{"type":"pong"}`)
}
