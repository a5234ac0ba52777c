package pubsub_test

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

var (
	_ hub.Bus        = (*pubsub.Redis)(nil)
	_ hub.Bus        = (*pubsub.Memory)(nil)
	_ pubsubtest.Bus = (*pubsub.Redis)(nil)
	_ pubsubtest.Bus = (*pubsub.Memory)(nil)
)

func TestMain(m *testing.M) { testkit.Main(m) }

// calm is for tests without a fault, so that a slow machine does not look like one.
const calm = 30 * time.Second

// newKeyspace returns names that no other test uses.
func newKeyspace(tb testing.TB) keyspace.Keyspace {
	tb.Helper()
	return testkit.KeysUnder(tb, rand.Text())
}

// ahead returns a function that makes a history continue an hour ahead, as after a wrong clock.
func ahead(client redis.UniversalClient, keys keyspace.Keyspace) func(context.Context, event.Group) error {
	return func(ctx context.Context, g event.Group) error {
		id := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10) + "-0"
		return client.XAdd(ctx, &redis.XAddArgs{Stream: keys.History(g), ID: id, Values: []string{"event", pubsubtest.Payload(g, "ahead")}}).Err()
	}
}

// lose returns a function that loses a history.
func lose(client redis.UniversalClient, keys keyspace.Keyspace) func(context.Context, event.Group) error {
	return func(ctx context.Context, g event.Group) error { return client.Del(ctx, keys.History(g)).Err() }
}

func TestContractRedis(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	pubsubtest.Run(t, func(t *testing.T) pubsubtest.Fixture {
		t.Helper()
		keys := newKeyspace(t)
		return pubsubtest.Fixture{
			Bus: pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm}),
			Inject: func(ctx context.Context, g event.Group, payload string) error {
				return client.Publish(ctx, keys.GroupChannel(g), payload).Err()
			},
			Ahead: ahead(client, keys), Lose: lose(client, keys),
		}
	})
}

// TestContractMiniredis: the server built into the demo is enough, including Lua and streams.
func TestContractMiniredis(t *testing.T) {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client := redistest.NewClient(t, server.Addr())
	pubsubtest.Run(t, func(t *testing.T) pubsubtest.Fixture {
		t.Helper()
		keys := newKeyspace(t)
		return pubsubtest.Fixture{
			Bus:       pubsub.NewRedis(client, keys, pubsub.Options{LinkTimeout: calm}),
			Pass:      server.FastForward,
			Uncounted: true,
			Ahead:     ahead(client, keys), Lose: lose(client, keys),
		}
	})
}

func TestPublishMetrics(t *testing.T) {
	server := redistest.StartServer(t)
	reg := prometheus.NewRegistry()
	publisher := pubsub.NewPublisher(redistest.NewClient(t, server.Addr), newKeyspace(t), pubsub.Options{Registerer: reg})
	g := testkit.Group(t, "acme", "room")
	good, foreign := []byte(`{"type":"t","organization_id":"acme"}`), []byte(`{"type":"t","organization_id":"rival"}`)
	publish := func() {
		_ = publisher.Publish(t.Context(), g, good) // the metrics tell
		_ = publisher.Publish(t.Context(), g, foreign)
		publisher.PublishAll(t.Context(), []event.Publication{
			{Group: g, Payload: good},
			{Group: g, Payload: foreign},
			{Group: g, Payload: good, Record: &event.Recording{}},
			{Group: g, Payload: good, Record: &event.Recording{IdempotencyKey: strings.Repeat("k", 1000)}},
		})
	}
	publish()
	server.Stop()
	publish()
	for name, want := range map[string]float64{
		"orgcast_events_published_total": 3, "orgcast_events_publish_failed_total": 3, "orgcast_events_publish_refused_total": 6,
	} {
		if got := counter(t, reg, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestContractMemory(t *testing.T) {
	pubsubtest.Run(t, func(*testing.T) pubsubtest.Fixture {
		bus := pubsub.NewMemory()
		return pubsubtest.Fixture{
			Bus: bus,
			Ahead: func(context.Context, event.Group) error {
				bus.Ahead(time.Hour)
				return nil
			},
			Lose: func(_ context.Context, g event.Group) error {
				bus.Lose(g)
				return nil
			},
		}
	})
}

func TestDroppedPayloadsAreCountedAndLoggedWithoutContent(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys, reg := newKeyspace(t), prometheus.NewRegistry()
	core, logs := observer.New(zap.DebugLevel)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, Registerer: reg, Log: zap.New(core)})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g := testkit.Group(t, "acme", "room")
	pubsubtest.Subscribe(t, bus, g)

	const flood = 500
	pipe := client.Pipeline()
	for range flood {
		pipe.Publish(t.Context(), keys.GroupChannel(g), `{"type":"t","organization_id":"rival","secret":"hunter2"}`)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	pubsubtest.Publish(t, bus, g, "good")
	sink.WaitFor(t, pubsubtest.Message(g, "good"))

	if got := counter(t, reg, "orgcast_events_dropped_total"); got != flood {
		t.Errorf("dropped: got %v, want %v", got, flood)
	}
	if got := counter(t, reg, "orgcast_events_received_total"); got != 1 {
		t.Errorf("received: got %v, want 1", got)
	}
	if got := counter(t, reg, "orgcast_events_published_total"); got != 1 {
		t.Errorf("published: got %v, want 1", got)
	}
	if got := counter(t, reg, "orgcast_bus_groups"); got != 1 {
		t.Errorf("groups: got %v, want 1", got)
	}
	// The log samples lines by these fields (package journal).
	if lines := logs.FilterMessage("event dropped").FilterField(zap.Stringer("group", g)).FilterField(zap.String("reason", "foreign_organization")).Len(); lines != flood {
		t.Errorf("log lines with group and reason: got %d, want %d", lines, flood)
	}
	for _, line := range logs.All() {
		for key, value := range line.ContextMap() {
			if s, ok := value.(string); ok && containsAny(s, "hunter2", "rival") {
				t.Errorf("log field %s has content of the payload: %q", key, s)
			}
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

// TestSubscriptionsConverge runs random orders of Subscribe, Unsubscribe, contexts that end while
// waiting, pauses and lost links, against a real server and a model that only counts.
func TestSubscriptionsConverge(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	var groups []event.Group
	for i := range 4 {
		groups = append(groups, testkit.Group(t, "org"+strconv.Itoa(i%2), "room"+strconv.Itoa(i/2)))
	}
	type waiter struct {
		g      event.Group
		cancel context.CancelFunc
		ended  bool
		result chan error
	}
	rapid.Check(t, func(rt *rapid.T) {
		prefix := rand.Text()
		keys := testkit.KeysUnder(rt, prefix)
		bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, MinBackoff: time.Millisecond})
		var sink pubsubtest.Recorder
		ctx, cancel := context.WithTimeout(t.Context(), pubsubtest.Patience)
		defer cancel()
		var wg sync.WaitGroup
		defer wg.Wait()
		run, stop := context.WithCancel(ctx)
		defer stop()
		wg.Go(func() { _ = bus.Run(run, &sink) })

		model := make(map[event.Group]int)
		var waiters []*waiter
		anyGroup := rapid.SampledFrom(groups)
		rt.Repeat(map[string]func(*rapid.T){
			"subscribe and wait": func(rt *rapid.T) {
				g := anyGroup.Draw(rt, "group")
				if err := bus.Subscribe(ctx, g); err != nil {
					rt.Fatalf("Subscribe(%v): %v", g, err)
				}
				model[g]++
			},
			"subscribe": func(rt *rapid.T) {
				c, cancel := context.WithCancel(ctx)
				w := &waiter{g: anyGroup.Draw(rt, "group"), cancel: cancel, result: make(chan error, 1)}
				wg.Go(func() { w.result <- bus.Subscribe(c, w.g) })
				waiters = append(waiters, w)
			},
			"give up": func(rt *rapid.T) {
				if len(waiters) == 0 {
					rt.Skip("nobody waits")
				}
				w := rapid.SampledFrom(waiters).Draw(rt, "waiter")
				w.ended = true
				w.cancel()
			},
			"unsubscribe": func(rt *rapid.T) {
				g := anyGroup.Draw(rt, "group")
				if model[g] == 0 {
					rt.Skip("not subscribed")
				}
				bus.Unsubscribe(g)
				model[g]--
			},
			"leave and come back": func(rt *rapid.T) {
				g := anyGroup.Draw(rt, "group")
				if model[g] == 0 {
					rt.Skip("not subscribed")
				}
				// The growing delay meets UNSUBSCRIBE queued, in progress, and confirmed.
				for pause := range 60 {
					bus.Unsubscribe(g)
					for start := time.Now(); time.Since(start) < time.Duration(pause)*2*time.Microsecond; {
						runtime.Gosched()
					}
					if err := bus.Subscribe(ctx, g); err != nil {
						rt.Fatalf("Subscribe(%v): %v", g, err)
					}
				}
			},
			"pause": func(rt *rapid.T) {
				bus.Pause(anyGroup.Draw(rt, "group"))
			},
			"end pauses": func(*rapid.T) {
				bus.EndPauses()
			},
			"lose the link": func(*rapid.T) {
				_ = client.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
			},
		})
		for _, w := range waiters {
			err := <-w.result
			w.cancel()
			if err != nil && !w.ended {
				rt.Fatalf("Subscribe(%v): %v", w.g, err)
			}
			if err == nil {
				model[w.g]++
			}
		}
		pubsubtest.Eventually(t, "no pauses", func() bool { return bus.EndPauses() == 0 })
		// Commands are sent and confirmed in order. The first of these is confirmed on a link that
		// stays up. The second comes after everything that the link had to settle. The third comes
		// after everything that those confirmations caused.
		for i := range 3 {
			g := testkit.Group(t, "barrier", strconv.Itoa(i))
			if err := bus.Subscribe(ctx, g); err != nil {
				rt.Fatalf("Subscribe(%v): %v", g, err)
			}
			model[g]++
		}
		var want []string
		for g, count := range model {
			if count > 0 {
				want = append(want, keys.GroupChannel(g))
			}
		}
		got, err := client.PubSubChannels(ctx, prefix+":{*").Result()
		if err != nil {
			rt.Fatal(err)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("subscribed channels differ (-want +got):\n%s", diff)
		}
		for _, g := range append(groups, testkit.Group(t, "barrier", "0")) {
			if err := bus.Publish(ctx, g, []byte(pubsubtest.Payload(g, "final"))); err != nil {
				rt.Fatal(err)
			}
		}
		sink.WaitFor(t, pubsubtest.Message(testkit.Group(t, "barrier", "0"), "final"))
		for _, g := range groups {
			final := pubsubtest.Message(g, "final")
			if model[g] > 0 {
				sink.WaitFor(t, final) // it is held while the group catches up
			} else if slices.Contains(sink.Items(), final) {
				rt.Fatalf("event of %v delivered, which nobody wants", g)
			}
			for range model[g] {
				bus.Unsubscribe(g)
			}
		}
		for i := range 3 {
			bus.Unsubscribe(testkit.Group(t, "barrier", strconv.Itoa(i)))
		}
		pubsubtest.Eventually(t, "nothing is remembered", func() bool { return bus.WantedGroups()+bus.Meters() == 0 })
	})
}

// TestMassJoin subscribes to many groups at once: more than fit into one command, and more than may
// be unconfirmed at a time.
func TestMassJoin(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	ctx, cancel := context.WithTimeout(t.Context(), pubsubtest.Patience)
	defer cancel()
	const many = 10000
	var wg sync.WaitGroup
	for i := range many {
		g := testkit.Group(t, "acme", strconv.Itoa(i))
		wg.Go(func() {
			if err := bus.Subscribe(ctx, g); err != nil {
				t.Errorf("Subscribe(%v): %v", g, err)
			}
		})
	}
	pubsubtest.Eventually(t, "all ask", func() bool { return bus.WantedGroups() == many })
	before := commandCalls(t, client, "subscribe")
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	wg.Wait()
	got := commandCalls(t, client, "subscribe") - before
	if most := many/512 + 20; got > most {
		t.Errorf("SUBSCRIBE commands: got %d, want at most %d", got, most)
	}
	last := testkit.Group(t, "acme", strconv.Itoa(many-1))
	pubsubtest.Publish(t, bus, last, "here")
	sink.WaitFor(t, pubsubtest.Message(last, "here"))
}

func TestPublishFailsWithoutServer(t *testing.T) {
	server := redistest.StartServer(t)
	bus := pubsub.NewRedis(redistest.NewClient(t, server.Addr), newKeyspace(t), pubsub.Options{PublishTimeout: 200 * time.Millisecond})
	g := testkit.Group(t, "acme", "room")
	server.Pause()
	defer server.Resume()
	payload := []byte(pubsubtest.Payload(g, "x"))
	if err := bus.Publish(t.Context(), g, payload); err == nil {
		t.Error("Publish to a server that hangs: got nil, want an error")
	}
	results := bus.PublishAll(t.Context(), []event.Publication{
		{Group: g, Payload: payload}, {Group: g, Payload: []byte("no")}, {Group: g, Payload: payload, Record: new(event.Recording)},
	})
	if results[0].Err == nil || !errors.Is(results[1].Err, event.ErrNotObject) || results[2].Err == nil {
		t.Errorf("PublishAll to a server that hangs: got %v, want an error, %v, an error", results, event.ErrNotObject)
	}
}

// TestSubscribeTimeout: Subscribe fails within a bounded time if there is no confirmation.
func TestSubscribeTimeout(t *testing.T) {
	bus := pubsub.NewRedis(redistest.NewClient(t, redistest.Start(t)), newKeyspace(t), pubsub.Options{SubscribeTimeout: 10 * time.Millisecond})
	if err := bus.Subscribe(t.Context(), testkit.Group(t, "acme", "room")); !errors.Is(err, pubsub.ErrUnconfirmed) {
		t.Errorf("got %v, want %v", err, pubsub.ErrUnconfirmed)
	}
	if got := bus.WantedGroups(); got != 0 {
		t.Errorf("wanted groups: got %d, want 0", got)
	}
}
