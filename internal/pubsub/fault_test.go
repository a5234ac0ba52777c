package pubsub_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// equalItems lets go-cmp compare groups, whose fields are closed.
var equalItems = cmpopts.EquateComparable(event.Group{}, event.Position{})

// node is a running bus that has subscribed to two groups and delivered one event.
type node struct {
	*pubsub.Redis
	sink     pubsubtest.Recorder
	keys     keyspace.Keyspace
	reg      *prometheus.Registry
	kept     event.Group
	abandons event.Group
}

func startNode(t *testing.T, client redis.UniversalClient, opt pubsub.Options) *node {
	t.Helper()
	n := &node{
		keys: newKeyspace(t),
		reg:  prometheus.NewRegistry(),
		kept: testkit.Group(t, "acme", "kept"), abandons: testkit.Group(t, "acme", "abandons"),
	}
	opt.Registerer = n.reg
	if opt.MaxBackoff == 0 {
		opt.MaxBackoff = 100 * time.Millisecond
	}
	n.Redis = pubsub.NewRedis(client, n.keys, opt)
	pubsubtest.Start(t, n, &n.sink)
	pubsubtest.Subscribe(t, n, n.kept, n.abandons)
	pubsubtest.Publish(t, n, n.kept, "before")
	n.sink.WaitFor(t, pubsubtest.Message(n.kept, "before"))
	pubsubtest.Eventually(t, "healthy at first", n.isHealthy)
	return n
}

func (n *node) isHealthy() bool { return n.Healthy() == nil }

// mustRecover waits for the gap, and checks that events flow after it.
func (n *node) mustRecover(t *testing.T) {
	t.Helper()
	n.sink.WaitFor(t, pubsubtest.Gap(n.kept))
	pubsubtest.Eventually(t, "healthy again", n.isHealthy)
	pubsubtest.Publish(t, n, n.kept, "after")
	n.sink.WaitFor(t, pubsubtest.Message(n.kept, "after"))
	want := []pubsubtest.Item{
		pubsubtest.Message(n.kept, "before"),
		pubsubtest.Gap(n.kept),
		pubsubtest.Message(n.kept, "after"),
	}
	if diff := cmp.Diff(want, n.sink.Of(n.kept), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
	if got := counter(t, n.reg, "orgcast_bus_reconnects_total"); got < 1 {
		t.Errorf("reconnects: got %v, want 1 or more", got)
	}
}

// mustFlow checks that events flow again. On a busy machine, a link with a short timeout may be
// lost once more, and with it events that are not in a history.
func (n *node) mustFlow(t *testing.T, g event.Group) {
	t.Helper()
	pubsubtest.Eventually(t, "events flow again", func() bool {
		pubsubtest.Publish(t, n, g, "after")
		return slices.Contains(n.sink.Of(g), pubsubtest.Message(g, "after"))
	})
}

func TestServerRestarts(t *testing.T) {
	server := redistest.StartServer(t)
	n := startNode(t, redistest.NewClient(t, server.Addr), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	server.Stop()
	pubsubtest.Eventually(t, "unhealthy without a server", func() bool { return !n.isHealthy() })
	n.Unsubscribe(n.abandons)
	late := testkit.Group(t, "acme", "late")
	joined := make(chan error, 1) // one result
	go func() { joined <- n.Subscribe(t.Context(), late) }()
	server.Restart()
	n.mustRecover(t)
	if err := <-joined; err != nil {
		t.Errorf("Subscribe while the server was away: got %v, want nil", err)
	}
	for _, g := range []event.Group{n.abandons, late} {
		if got := n.sink.Of(g); len(got) != 0 {
			t.Errorf("items of %v: got %v, want none", g, got)
		}
	}
}

func TestServerKillsSubscribers(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	n := startNode(t, client, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	n.mustRecover(t)
	n.sink.WaitFor(t, pubsubtest.Gap(n.abandons))
	if got := n.sink.Of(n.abandons); len(got) != 1 {
		t.Errorf("items of the other group: got %v, want one gap", got)
	}
}

func TestServerHangs(t *testing.T) {
	server := redistest.StartServer(t)
	n := startNode(t, redistest.NewClient(t, server.Addr), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, CanaryInterval: 50 * time.Millisecond})
	server.Pause()
	pubsubtest.Eventually(t, "no link to a server that hangs", func() bool { return n.Healthy() == pubsub.ErrNoLink }) //nolint:errorlint // it is returned as it is
	server.Resume()
	n.sink.WaitFor(t, pubsubtest.Gap(n.kept))
	pubsubtest.Eventually(t, "healthy again", n.isHealthy)
	n.mustFlow(t, n.kept)
}

func TestServerAwayAtStart(t *testing.T) {
	server := redistest.StartServer(t)
	server.Stop()
	bus := pubsub.NewRedis(redistest.NewClient(t, server.Addr), newKeyspace(t), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, MaxBackoff: 100 * time.Millisecond})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g := testkit.Group(t, "acme", "room")
	joined := make(chan error, 1) // one result
	go func() { joined <- bus.Subscribe(t.Context(), g) }()
	if err := bus.Healthy(); err == nil {
		t.Error("Healthy without a server: got nil, want an error")
	}
	server.Restart()
	if err := <-joined; err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	pubsubtest.Eventually(t, "healthy", func() bool { return bus.Healthy() == nil })
	pubsubtest.Publish(t, bus, g, "here")
	sink.WaitFor(t, pubsubtest.Message(g, "here"))
	if got := len(sink.Items()); got != 1 {
		t.Errorf("items: got %d, want 1: there was nothing to lose", got)
	}
}

func TestRunEndsWhileServerHangs(t *testing.T) {
	server := redistest.StartServer(t)
	bus := pubsub.NewRedis(redistest.NewClient(t, server.Addr), newKeyspace(t), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	var sink pubsubtest.Recorder
	stop := pubsubtest.Start(t, bus, &sink)
	pubsubtest.Subscribe(t, bus, testkit.Group(t, "acme", "room"))
	server.Pause()
	defer server.Resume()
	stop() // fails the test unless Run returns
}

func TestPasswordRefused(t *testing.T) {
	addr := redistest.Start(t)
	admin := redistest.NewClient(t, addr)
	conn := admin.Conn() // stays authenticated
	defer func() { _ = conn.Close() }()
	if err := conn.ConfigSet(t.Context(), "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	bus := pubsub.NewRedis(redistest.NewClient(t, addr), newKeyspace(t), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, MaxBackoff: 100 * time.Millisecond})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g := testkit.Group(t, "acme", "room")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := bus.Subscribe(ctx, g); err == nil {
		t.Error("Subscribe without the password: got nil, want an error")
	}
	if err := bus.Healthy(); err == nil {
		t.Error("Healthy without the password: got nil, want an error")
	}
	if err := conn.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	pubsubtest.Subscribe(t, bus, g)
	pubsubtest.Eventually(t, "healthy", func() bool { return bus.Healthy() == nil })
}

// TestChannelsRefused removes the permission for the groups' channels but not for the canary's.
func TestChannelsRefused(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys := newKeyspace(t)
	setRights := func(rules ...any) {
		t.Helper()
		if err := client.Do(t.Context(), append([]any{"ACL", "SETUSER", "default"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	setRights("resetchannels", "&"+keys.Canary("*"))
	bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, MaxBackoff: 100 * time.Millisecond})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	pubsubtest.Eventually(t, "healthy while no group is wanted", func() bool { return bus.Healthy() == nil })
	g := testkit.Group(t, "acme", "room")
	joined := make(chan error, 1) // one result
	go func() { joined <- bus.Subscribe(t.Context(), g) }()
	pubsubtest.Eventually(t, "unhealthy", func() bool { return bus.Healthy() != nil })
	setRights("allchannels")
	if err := <-joined; err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	pubsubtest.Eventually(t, "events flow", func() bool {
		pubsubtest.Publish(t, bus, g, "here")
		return slices.Contains(sink.Of(g), pubsubtest.Message(g, "here"))
	})
}

// elsewhere publishes to another server than the one on which it subscribes, while diverted. A
// client does so if its subscription stays on a former master.
type elsewhere struct {
	redis.UniversalClient
	other    redis.UniversalClient
	diverted atomic.Bool
}

func (c *elsewhere) Publish(ctx context.Context, channel string, message any) *redis.IntCmd {
	if c.diverted.Load() {
		return c.other.Publish(ctx, channel, message)
	}
	return c.UniversalClient.Publish(ctx, channel, message)
}

func TestLinkStaysWithDeposedMaster(t *testing.T) {
	client := &elsewhere{
		UniversalClient: redistest.NewClient(t, redistest.Start(t)),
		other:           redistest.NewClient(t, redistest.Start(t)),
	}
	n := startNode(t, client, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: time.Second, CanaryInterval: 50 * time.Millisecond})
	client.diverted.Store(true)
	n.sink.WaitFor(t, pubsubtest.Gap(n.kept)) // the link was dropped although its server answers
	client.diverted.Store(false)
	pubsubtest.Eventually(t, "healthy again", n.isHealthy)
	n.mustFlow(t, n.kept)
}

// slowSink takes longer for an event than a canary may take.
type slowSink struct{ pubsubtest.Recorder }

func (s *slowSink) Deliver(e *event.Event) {
	time.Sleep(6 * time.Millisecond) // the work of a large fan-out
	s.Recorder.Deliver(e)
}

// TestBurstIsNotDeafness makes the canary wait behind events for several LinkTimeouts. Dropping a
// link that is merely busy would lose events exactly when there are many.
func TestBurstIsNotDeafness(t *testing.T) {
	t.Parallel() // it takes long, because the link's timeout must be long enough for a busy machine
	client := redistest.NewClient(t, redistest.Start(t))
	reg := prometheus.NewRegistry()
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{
		SubscribeTimeout: pubsubtest.Patience, LinkTimeout: 2 * time.Second, CanaryInterval: 20 * time.Millisecond, Registerer: reg,
	})
	var sink slowSink
	pubsubtest.Start(t, bus, &sink)
	g := testkit.Group(t, "acme", "room")
	pubsubtest.Subscribe(t, bus, g)
	const events = 1000
	out := make([]event.Publication, events)
	for i := range out {
		out[i] = event.Publication{Group: g, Payload: []byte(pubsubtest.Payload(g, strconv.Itoa(i)))}
	}
	for i, r := range bus.PublishAll(t.Context(), out) {
		if r.Err != nil {
			t.Fatalf("PublishAll: event %d: %v", i, r.Err)
		}
	}
	sink.WaitFor(t, pubsubtest.Message(g, strconv.Itoa(events-1)))
	if got := len(sink.Items()); got != events {
		t.Errorf("items: got %d, want %d and no gap", got, events)
	}
	if got := counter(t, reg, "orgcast_bus_reconnects_total"); got != 0 {
		t.Errorf("reconnects: got %v, want 0", got)
	}
}

// TestServerSpeaksUnasked makes the server end a subscription by itself, as a Cluster does when a
// slot moves.
func TestServerSpeaksUnasked(t *testing.T) {
	proxy := startProxy(t, redistest.Start(t))
	n := startNode(t, redistest.NewClient(t, proxy.addr), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	channel := n.keys.GroupChannel(n.kept)
	proxy.inject(t, ">3\r\n$11\r\nunsubscribe\r\n$"+strconv.Itoa(len(channel))+"\r\n"+channel+"\r\n:1\r\n")
	n.mustRecover(t)
}

// proxy passes bytes between clients and a server, and can insert bytes.
type proxy struct {
	addr string

	mu      sync.Mutex
	clients map[net.Conn]bool // the value says whether the client subscribed
}

func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), clients: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for c := range p.clients {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.clients[client] = false
			p.mu.Unlock()
			wg.Go(func() {
				p.pass(upstream, client, func(b []byte) {
					if bytes.Contains(b, []byte("\nsubscribe\r")) {
						p.clients[client] = true
					}
				})
			})
			wg.Go(func() { p.pass(client, upstream, func([]byte) {}) })
		}
	})
	return p
}

// pass copies one direction until either side ends. It calls see with the bytes and then writes
// them, under p.mu, so that inject cannot insert anything within a chunk.
func (p *proxy) pass(to, from net.Conn, see func([]byte)) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		see(buf[:n])
		_, err = to.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// inject sends bytes to every client that subscribed, as if the server had sent them.
func (p *proxy) inject(t *testing.T, text string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, subscribed := range p.clients {
		if subscribed {
			_, _ = c.Write([]byte(text)) // an earlier one may have ended
		}
	}
}
