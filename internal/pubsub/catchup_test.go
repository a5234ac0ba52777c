package pubsub_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// follower is a running bus that has subscribed to a group. Others publish.
type follower struct {
	*pubsub.Redis
	others *pubsub.Publisher
	away   atomic.Bool   // the bus cannot connect
	client *redis.Client // not the bus's
	keys   keyspace.Keyspace
	reg    *prometheus.Registry
	t      *testing.T
	sink   pubsubtest.Recorder
	group  event.Group
}

// startFollower records the early texts before it subscribes.
func startFollower(t *testing.T, early ...string) *follower {
	t.Helper()
	addr := redistest.Start(t)
	f := &follower{
		client: redistest.NewClient(t, addr), keys: newKeyspace(t), reg: prometheus.NewRegistry(), t: t,
		group: testkit.Group(t, "acme", "room"),
	}
	f.others = pubsub.NewPublisher(f.client, f.keys, pubsub.Options{PublishTimeout: calm})
	options := *f.client.Options()
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if f.away.Load() {
			return nil, errors.New("cut off")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	client := redis.NewClient(&options)
	t.Cleanup(func() { _ = client.Close() })
	f.Redis = pubsub.NewRedis(client, f.keys, pubsub.Options{
		SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, HistoryTimeout: calm, Registerer: f.reg,
		MaxBackoff: 100 * time.Millisecond,
	})
	f.record(t, early...)
	pubsubtest.Start(t, f, &f.sink)
	pubsubtest.Subscribe(t, f, f.group)
	pubsubtest.Eventually(t, "healthy at first", func() bool { return f.Healthy() == nil })
	return f
}

func (f *follower) record(t *testing.T, texts ...string) []pubsubtest.Item {
	t.Helper()
	return pubsubtest.Record(t, f, f.group, event.Recording{}, texts...)
}

// Publish implements pubsubtest.Bus.
func (f *follower) Publish(ctx context.Context, g event.Group, payload []byte) error {
	return f.others.Publish(ctx, g, payload)
}

// Record implements pubsubtest.Bus.
func (f *follower) Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error) {
	return f.others.Record(ctx, g, payload, o)
}

// subscribeUnread goes on with another group, whose history cannot be read while it is subscribed.
func (f *follower) subscribeUnread() {
	f.t.Helper()
	f.group = testkit.Group(f.t, "acme", "unread")
	if err := f.client.Set(f.t.Context(), f.keys.History(f.group), "no stream", 0).Err(); err != nil {
		f.t.Fatal(err)
	}
	pubsubtest.Subscribe(f.t, f, f.group)
	if err := f.client.Del(f.t.Context(), f.keys.History(f.group)).Err(); err != nil {
		f.t.Fatal(err)
	}
}

// mend lets the link come back.
func (f *follower) mend() { f.away.Store(false) }

// cut closes the link until mend, and returns when it is gone.
func (f *follower) cut(t *testing.T) {
	t.Helper()
	f.away.Store(true)
	if err := f.client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	pubsubtest.Eventually(t, "no link", func() bool { return f.Healthy() == pubsub.ErrNoLink }) //nolint:errorlint // it is returned as it is
}

// mustHave waits for the last item and compares all of them. It mends the link.
func (f *follower) mustHave(t *testing.T, want []pubsubtest.Item) {
	t.Helper()
	f.mend()
	f.sink.WaitFor(t, want[len(want)-1])
	if diff := cmp.Diff(want, f.sink.Of(f.group), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
}

// texts returns n numbers, beginning with first.
func texts(first, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(first + i)
	}
	return list
}

// TestCatchUpTakesFewRoundTrips: missed events of a group are read within one HistoryTimeout, or
// not at all. So a distant Redis allows only a few pages, and members cannot ask for these events
// themselves.
func TestCatchUpTakesFewRoundTrips(t *testing.T) {
	const events, most = 1000, 24
	f := startFollower(t, "early")
	f.cut(t)
	before := commandCalls(t, f.client, "xrevrange")
	f.mustHave(t, f.record(t, texts(0, events)...))
	if got := commandCalls(t, f.client, "xrevrange") - before; got > most {
		t.Errorf("questions for %d small events: got %d, want %d at most", events, got, most)
	}
}

func TestCatchUp(t *testing.T) {
	t.Parallel()
	gap := func(f *follower) []pubsubtest.Item { return []pubsubtest.Item{pubsubtest.Gap(f.group)} }
	for name, test := range map[string]struct {
		early []string // recorded before the group is subscribed
		run   func(f *follower) (want []pubsubtest.Item)
	}{
		"what was missed follows without a gap": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			want := f.record(f.t, texts(0, 3)...)
			f.sink.WaitFor(f.t, want[2])
			f.cut(f.t)
			return append(want, f.record(f.t, texts(3, 5)...)...)
		}},
		"more than one question brings": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			return f.record(f.t, texts(0, 100)...)
		}},
		"more than one page brings": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			return f.record(f.t, texts(0, 700)...)
		}},
		"of a history that was empty": {nil, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			return f.record(f.t, texts(0, 3)...)
		}},
		"nothing was missed": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			f.mend()
			pubsubtest.Eventually(f.t, "a link", func() bool { return f.Healthy() == nil })
			return f.record(f.t, "late")
		}},
		"dropped from the history": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			pubsubtest.Record(f.t, f, f.group, event.Recording{MaxLength: 10}, texts(0, 300)...)
			kept := pubsubtest.History(f.t, f, f.group, 1000)
			if len(kept) > 200 {
				f.t.Fatalf("kept %d of 300", len(kept))
			}
			return append(gap(f), kept...)
		}},
		"deleted from the history": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			items := f.record(f.t, texts(0, 3)...)
			if err := f.client.XDel(f.t.Context(), f.keys.History(f.group), items[1].Position.String()).Err(); err != nil {
				f.t.Fatal(err)
			}
			return append(gap(f), items[0], items[2])
		}},
		"Redis lost everything": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			f.record(f.t, "lost")
			if err := f.client.FlushAll(f.t.Context()).Err(); err != nil {
				f.t.Fatal(err)
			}
			return append(gap(f), f.record(f.t, "new")...)
		}},
		"Redis lost everything of a history that was empty": {nil, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			f.record(f.t, "lost")
			if err := f.client.FlushAll(f.t.Context()).Err(); err != nil {
				f.t.Fatal(err)
			}
			return append(gap(f), f.record(f.t, "new")...)
		}},
		"transient events are in no history": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			pubsubtest.Publish(f.t, f, f.group, "seen")
			f.sink.WaitFor(f.t, pubsubtest.Message(f.group, "seen"))
			f.cut(f.t)
			pubsubtest.Publish(f.t, f, f.group, "lost")
			items := f.record(f.t, "kept")
			return append([]pubsubtest.Item{pubsubtest.Message(f.group, "seen"), pubsubtest.Gap(f.group)}, items...)
		}},
		"the history cannot be read": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			if err := f.client.Rename(f.t.Context(), f.keys.History(f.group), "elsewhere").Err(); err != nil {
				f.t.Fatal(err)
			}
			if err := f.client.Set(f.t.Context(), f.keys.History(f.group), "no stream", 0).Err(); err != nil {
				f.t.Fatal(err)
			}
			return gap(f)
		}},
		"its newest position could not be read at first, but an event has come since": {nil, func(f *follower) []pubsubtest.Item {
			f.subscribeUnread()
			want := f.record(f.t, "first")
			f.sink.WaitFor(f.t, want[0])
			f.cut(f.t)
			return append(want, f.record(f.t, texts(0, 3)...)...)
		}},
		"its newest position could not be read at first, and no event has come since": {nil, func(f *follower) []pubsubtest.Item {
			f.subscribeUnread()
			f.cut(f.t)
			f.record(f.t, "lost")
			f.mend()
			f.sink.WaitFor(f.t, pubsubtest.Gap(f.group))
			return append(gap(f), f.record(f.t, "late")...)
		}},
		"a pause is like an outage": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			want := f.record(f.t, "before")
			f.sink.WaitFor(f.t, want[0])
			f.Pause(f.group)
			want = append(want, f.record(f.t, texts(0, 50)...)...)
			pubsubtest.Eventually(f.t, "no pause", func() bool { return f.EndPauses() == 0 })
			return append(want, f.record(f.t, "after")...)
		}},
		"who left misses nothing": {[]string{"early"}, func(f *follower) []pubsubtest.Item {
			f.cut(f.t)
			f.record(f.t, "nobody's")
			f.Unsubscribe(f.group)
			f.mend()
			pubsubtest.Subscribe(f.t, f, f.group)
			return f.record(f.t, "late")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFollower(t, test.early...)
			f.mustHave(t, test.run(f))
		})
	}
}

// gate is a hook that holds back questions to histories, or their answers.
type gate struct {
	questions bool // hold questions instead of answers
	arrived   sync.Once
	shut      chan struct{} // closed when one is held
	open      chan struct{}
}

func newGate() *gate { return &gate{shut: make(chan struct{}), open: make(chan struct{})} }

func (*gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "xrevrange" }) {
			return next(ctx, cmds)
		}
		if g.questions {
			g.wait(ctx)
			return next(ctx, cmds)
		}
		err := next(ctx, cmds)
		g.wait(ctx)
		return err
	}
}

func (g *gate) wait(ctx context.Context) {
	g.arrived.Do(func() { close(g.shut) })
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

// stuckSink is a Recorder that blocks in Deliver for one event.
type stuckSink struct {
	pubsubtest.Recorder
	at              pubsubtest.Item
	reached, goOn   chan struct{}
	reachedOnlyOnce sync.Once
}

func (s *stuckSink) Deliver(e *event.Event) {
	if e.Group() == s.at.Group && string(e.Payload()) == s.at.Payload {
		s.reachedOnlyOnce.Do(func() { close(s.reached) })
		<-s.goOn
	}
	s.Recorder.Deliver(e)
}

// awaitWaiting returns when a goroutine waits for a lock in a method of the bus.
func awaitWaiting(t *testing.T, function string) {
	t.Helper()
	pubsubtest.Eventually(t, "a goroutine waits for its turn", func() bool {
		var text strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&text, 2)
		for stack := range strings.SplitSeq(text.String(), "\n\n") {
			if strings.Contains(stack, function) && strings.Contains(stack, "sync.(*Mutex).Lock") {
				return true
			}
		}
		return false
	})
}

// TestHeldEventIsCheckedInItsTurn: a message that was held while its group caught up waits for its
// turn, because calls of the Sink do not overlap. Meanwhile, the group's slot may move to a server
// whose link then delivers newer events. Then the held one is not delivered.
func TestHeldEventIsCheckedInItsTurn(t *testing.T) {
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{
		SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, PublishTimeout: calm, HistoryTimeout: calm,
	})
	g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other")
	sink := &stuckSink{at: pubsubtest.Message(other, "stuck"), reached: make(chan struct{}), goOn: make(chan struct{})}
	pubsubtest.Record(t, bus, g, event.Recording{}, "early")
	pubsubtest.Start(t, bus, sink)
	pubsubtest.Subscribe(t, bus, g, other)
	bus.Pause(g)
	answers := newGate()
	client.AddHook(answers)
	pubsubtest.Eventually(t, "the pause ends", func() bool { return bus.EndPauses() == 0 })
	<-answers.shut
	held := pubsubtest.Record(t, bus, g, event.Recording{}, "held")[0]
	pubsubtest.Publish(t, bus, other, "stuck")
	<-sink.reached // so the held one has come too
	if err := client.XDel(t.Context(), keys.History(g), held.Position.String()).Err(); err != nil {
		t.Fatal(err) // so that it cannot come from anywhere else
	}
	close(answers.open)
	awaitWaiting(t, "pubsub.(*catcher).hand")
	bus.Pause(g)
	close(sink.goOn)
	pubsubtest.Publish(t, bus, other, "after")
	sink.WaitFor(t, pubsubtest.Message(other, "after"))
	next := pubsubtest.Record(t, bus, g, event.Recording{}, "next")[0]
	pubsubtest.Eventually(t, "the second pause ends", func() bool { return bus.EndPauses() == 0 })
	sink.WaitFor(t, next)
	want := []pubsubtest.Item{pubsubtest.Gap(g), next} // a gap for the deleted one
	if diff := cmp.Diff(want, sink.Of(g), equalItems); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// TestCatchUpWhileMuchArrives: more messages arrive while the history is read than may be held.
func TestCatchUpWhileMuchArrives(t *testing.T) {
	f := startFollower(t, "early")
	f.cut(t)
	want := f.record(t, texts(0, 10)...)
	large := make([]byte, 64<<10)
	for i := range large {
		large[i] = 'x'
	}
	f.mend()
	for i := range 100 { // while the link comes back
		want = append(want, f.record(t, strconv.Itoa(i)+string(large))...)
		time.Sleep(10 * time.Millisecond) // the pace of a publisher
	}
	f.sink.WaitFor(t, want[len(want)-1])
	if diff := cmp.Diff(want, f.sink.Of(f.group), equalItems); diff != "" {
		t.Fatal("items differ")
	}
}

// TestCatchUpProperty: events are recorded, links cut and groups paused in any order. A group of
// recorded events gets each one once, in order, without a gap. A group that also has transient
// events gets at least its recorded ones that way.
func TestCatchUpProperty(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	pure := []event.Group{testkit.Group(t, "acme", "a"), testkit.Group(t, "acme", "b"), testkit.Group(t, "rival", "a")}
	mixed := testkit.Group(t, "acme", "mixed")
	rapid.Check(t, func(rt *rapid.T) {
		keys := testkit.KeysUnder(rt, rand.Text())
		bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, MinBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond})
		var sink pubsubtest.Recorder
		ctx, stop := context.WithTimeout(t.Context(), pubsubtest.Patience)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop()
		wg.Go(func() { _ = bus.Run(ctx, &sink) })
		all := append([]event.Group{mixed}, pure...)
		for _, g := range pure {
			pubsubtest.Record(t, bus, g, event.Recording{}, "early") // so that nothing looks transient
		}
		pubsubtest.Subscribe(t, bus, all...)
		want := make(map[event.Group][]pubsubtest.Item)
		anyGroup := rapid.SampledFrom(all)
		n := 0
		record := func(g event.Group, count int) {
			want[g] = append(want[g], pubsubtest.Record(t, bus, g, event.Recording{}, texts(n, count)...)...)
			n += count
		}
		rt.Repeat(map[string]func(*rapid.T){
			"record":       func(rt *rapid.T) { record(anyGroup.Draw(rt, "group"), rapid.IntRange(1, 40).Draw(rt, "count")) },
			"record again": func(rt *rapid.T) { record(anyGroup.Draw(rt, "group"), 1) },
			"transient":    func(*rapid.T) { pubsubtest.Publish(t, bus, mixed, strconv.Itoa(n)) },
			"cut":          func(*rapid.T) { _ = client.ClientKillByFilter(ctx, "TYPE", "pubsub").Err() },
			"pause":        func(rt *rapid.T) { bus.Pause(anyGroup.Draw(rt, "group")) },
			"end pauses":   func(*rapid.T) { bus.EndPauses() },
			"join again": func(rt *rapid.T) {
				g := anyGroup.Draw(rt, "group")
				pubsubtest.Subscribe(t, bus, g)
				bus.Unsubscribe(g)
			},
		})
		for _, g := range all {
			record(g, 1)
		}
		pubsubtest.Eventually(t, "no pauses", func() bool { return bus.EndPauses() == 0 })
		for _, g := range all {
			last := want[g][len(want[g])-1]
			sink.WaitFor(t, last)
			var got []pubsubtest.Item
			for _, item := range sink.Of(g) {
				if g != mixed || !item.Position.IsZero() {
					got = append(got, item)
				}
			}
			if diff := cmp.Diff(want[g], got, equalItems); diff != "" {
				rt.Fatalf("items of %v differ (-want +got):\n%s", g, diff)
			}
		}
	})
}
