package pubsub_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestHungServerDoesNothingLate: a server that hung refuses the commands queued in its sockets when
// it wakes up. Their senders have given up, and perhaps tried again.
func TestHungServerDoesNothingLate(t *testing.T) {
	server := redistest.StartServer(t)
	client, observer := redistest.NewClient(t, server.Addr), redistest.NewClient(t, server.Addr)
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm})
	g := testkit.Group(t, "acme", "room")
	before := pubsubtest.Record(t, bus, g, event.Recording{}, "before", "before") // so that the server's clock is known
	server.Pause()
	for _, key := range []string{"", "k"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := bus.Record(ctx, g, []byte(pubsubtest.Payload(g, "late")), event.Recording{IdempotencyKey: key}); err == nil {
			t.Errorf("key %q: recorded by a server that hangs", key)
		}
		cancel()
	}
	server.Resume()
	// The second Record may have found no open connection, and so was never sent.
	pubsubtest.Eventually(t, "what waited is refused", func() bool { return strings.Contains(errorStats(t, observer), "errorstat_LATE:") })
	after := pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: "k"}, "late")
	if diff := cmp.Diff(append(before, after...), pubsubtest.History(t, bus, g, 100), equalItems); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func errorStats(tb testing.TB, client *redis.Client) string {
	tb.Helper()
	text, err := client.Info(tb.Context(), "errorstats").Result()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// wrongClock is a hook that makes a server's clock look slow, for a number of times.
type wrongClock struct {
	slow  time.Duration
	lies  atomic.Int64
	asked atomic.Int64
}

func (*wrongClock) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*wrongClock) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w *wrongClock) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if now, ok := cmd.(*redis.TimeCmd); ok && err == nil {
				w.asked.Add(1)
				if w.lies.Add(-1) >= 0 {
					now.SetVal(now.Val().Add(-w.slow))
				}
			}
		}
		return err
	}
}

// openPipeline makes the client open a connection for pipelines.
func openPipeline(tb testing.TB, client *redis.Client) {
	tb.Helper()
	if _, err := client.Pipelined(tb.Context(), func(p redis.Pipeliner) error { return p.Ping(tb.Context()).Err() }); err != nil {
		tb.Fatal(err)
	}
}

// TestLateRecordIsTriedAgainOnce: if the server reports that a command is late although its time
// has not run out, the client had a wrong idea of the server's clock. It tries again, once.
func TestLateRecordIsTriedAgainOnce(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm})
	clock := &wrongClock{slow: 2 * calm}
	client.AddHook(clock)
	g := testkit.Group(t, "acme", "room")
	openPipeline(t, client) // so that the answers count
	clock.lies.Store(1)
	var out []event.Publication
	for _, text := range []string{"a", "b", "c"} {
		out = append(out, event.Publication{Group: g, Payload: []byte(pubsubtest.Payload(g, text)), Record: new(event.Recording)})
	}
	for i, result := range bus.PublishAll(t.Context(), out) {
		if result.Err != nil {
			t.Errorf("event %d: %v", i, result.Err)
		}
	}
	if got := clock.asked.Load(); got != 2 {
		t.Errorf("asked for the time: got %d, want 2", got)
	}
	clock.lies.Store(100)
	bus = pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm})
	if _, err := bus.Record(t.Context(), g, out[0].Payload, event.Recording{}); err == nil || !strings.Contains(err.Error(), "LATE") {
		t.Errorf("late twice: got %v, want LATE", err)
	}
	if got := clock.asked.Load(); got != 4 {
		t.Errorf("asked for the time: got %d in all, want 4", got)
	}
	clock.lies.Store(0)
	pubsubtest.Record(t, bus, g, event.Recording{}, "d")
	var texts []string
	for _, item := range pubsubtest.History(t, bus, g, 10) {
		texts = append(texts, item.Payload)
	}
	if diff := cmp.Diff([]string{pubsubtest.Payload(g, "d")}, texts); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// TestTimeIsAskedOnce: publications within a minute ask the server for the time once on each
// connection.
func TestTimeIsAskedOnce(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm})
	clock := new(wrongClock)
	client.AddHook(clock)
	g := testkit.Group(t, "acme", "room")
	openPipeline(t, client)
	pubsubtest.Record(t, bus, g, event.Recording{}, texts(0, 50)...)
	if got := clock.asked.Load(); got != 1 {
		t.Errorf("asked for the time: got %d, want 1", got)
	}
}

// TestRecordWithoutTime: a Redis user without permission for TIME can still record.
func TestRecordWithoutTime(t *testing.T) {
	addr := redistest.Start(t)
	admin := redistest.NewClient(t, addr)
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "backend", "on", "nopass", "~*", "&*", "+@all", "-time").Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: addr, Username: "backend", Password: "x", MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm})
	g := testkit.Group(t, "acme", "room")
	items := pubsubtest.Record(t, bus, g, event.Recording{}, "a", "b")
	if diff := cmp.Diff(items, pubsubtest.History(t, bus, g, 10), equalItems); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// TestScriptTellsKeysApart: the script, which sends the hash of an idempotency key, and this
// package compute the same hash, on the channel and in the history. Without a key there is none.
func TestScriptTellsKeysApart(t *testing.T) {
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{PublishTimeout: calm})
	g := testkit.Group(t, "acme", "room.1")
	listener := client.Subscribe(t.Context(), keys.GroupChannel(g))
	t.Cleanup(func() { _ = listener.Close() })
	if _, err := listener.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", "k", "order:17:paid", "}:once:x:{y}", "~!:", strings.Repeat("k", event.MaxIdempotencyKeyLength)} {
		item := pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: key}, "x")[0]
		head := event.Head{Position: item.Position}
		want := item.Position.String() + " " + item.Payload
		field := ""
		if key != "" {
			head.Key = event.HashKey(key)
			field = fmt.Sprintf("%016x", head.Key)
			want = item.Position.String() + " #" + field + " " + item.Payload
		}
		m, err := listener.ReceiveMessage(t.Context())
		if err != nil || m.Payload != want {
			t.Errorf("key %q: got %q, %v, want %q", key, m, err, want)
		}
		if got, object := event.CutHead(m.Payload); got != head || object != item.Payload {
			t.Errorf("key %q: read as %+v and %q, want %+v", key, got, object, head)
		}
		entries, err := client.XRevRangeN(t.Context(), keys.History(g), "+", "-", 1).Result()
		if got, _ := entries[0].Values["key"].(string); err != nil || got != field {
			t.Errorf("key %q: the history has %q, %v, want %q", key, got, err, field)
		}
	}
}

// echo publishes what a server that should not do so passes on: an event under a position that is
// in no history.
func echo(tb testing.TB, client *redis.Client, channel string, p event.Position, key, payload string) {
	tb.Helper()
	text := fmt.Sprintf("%s #%016x %s", p, event.HashKey(key), payload)
	if n, err := client.Publish(tb.Context(), channel, text).Result(); n != 1 || err != nil {
		tb.Fatalf("publish: got %d receivers, %v", n, err)
	}
}

// TestEventIsShownOncePerKey: an event comes again under another position, because a server that
// hung passes on its queue. It is delivered once. The same key in another group, in another
// organization, or a day later belongs to another event.
func TestEventIsShownOncePerKey(t *testing.T) {
	client, keys, reg := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t), prometheus.NewRegistry()
	bus := pubsub.NewRedis(client, keys, pubsub.Options{PublishTimeout: calm, SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, Registerer: reg})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g, other, rival := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other"), testkit.Group(t, "rival", "room")
	pubsubtest.Subscribe(t, bus, g, other, rival)
	o := event.Recording{IdempotencyKey: "k"}
	var want []pubsubtest.Item
	for _, group := range []event.Group{g, other, rival} {
		want = append(want, pubsubtest.Record(t, bus, group, o, "x")...)
	}
	first := want[0]
	sink.WaitFor(t, first)
	channel := keys.GroupChannel(g)
	for _, delta := range []uint64{1, 5000, 86_399_999} {
		echo(t, client, channel, event.NewPosition(first.Position.Milliseconds()+delta, 0), "k", first.Payload)
		echo(t, client, channel, event.NewPosition(first.Position.Milliseconds()-delta, 0), "k", first.Payload)
	}
	again := event.NewPosition(first.Position.Milliseconds()+86_400_000, 0)
	echo(t, client, channel, again, "k", first.Payload)
	want = append(want, pubsubtest.Item{Group: g, Payload: first.Payload, Position: again})
	sink.WaitFor(t, want[len(want)-1])
	if diff := cmp.Diff(want, sink.Items(), equalItems); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if got := counter(t, reg, "orgcast_events_dropped_total"); got != 6 {
		t.Errorf("dropped: got %v, want 6", got)
	}
}

// TestEventIsShownOnceAtItsPosition: a server that wakes up passes on an event that its group has
// had, after later ones. It is neither delivered again nor a gap.
func TestEventIsShownOnceAtItsPosition(t *testing.T) {
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{PublishTimeout: calm, SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g := testkit.Group(t, "acme", "room")
	pubsubtest.Subscribe(t, bus, g)
	var want []pubsubtest.Item
	for _, key := range []string{"a", "b", "c"} {
		want = append(want, pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: key}, key)...)
	}
	for i, key := range []string{"a", "b", "c"} {
		echo(t, client, keys.GroupChannel(g), want[i].Position, key, want[i].Payload)
	}
	want = append(want, pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: "d"}, "d")...)
	sink.WaitFor(t, want[len(want)-1])
	if diff := cmp.Diff(want, sink.Items(), equalItems); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// TestRepeatedEventIsNotCaughtUp: an event was delivered live, lost with its master, and recorded
// again. It is not delivered again when its group catches up, nor to a browser that resumes. An
// event that is twice in one history is read once.
func TestRepeatedEventIsNotCaughtUp(t *testing.T) {
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{PublishTimeout: calm, HistoryTimeout: calm, SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g := testkit.Group(t, "acme", "room")
	pubsubtest.Subscribe(t, bus, g)
	key := func(name string) event.Recording { return event.Recording{IdempotencyKey: name} }
	first := pubsubtest.Record(t, bus, g, key("first"), "first")[0]
	lost := pubsubtest.Item{Group: g, Payload: pubsubtest.Payload(g, "lost"), Position: event.NewPosition(first.Position.Milliseconds(), first.Position.Sequence()+1)}
	echo(t, client, keys.GroupChannel(g), lost.Position, "lost", lost.Payload)
	sink.WaitFor(t, lost)
	pubsubtest.Eventually(t, "a later millisecond", func() bool { // else the next one may have this position
		now, err := client.Time(t.Context()).Result()
		return err == nil && uint64(now.UnixMilli()) > lost.Position.Milliseconds()
	})
	second := pubsubtest.Record(t, bus, g, key("second"), "second")[0]
	sink.WaitFor(t, second)
	bus.Pause(g)
	again := pubsubtest.Record(t, bus, g, key("lost"), "lost")[0]
	third := pubsubtest.Record(t, bus, g, key("third"), "third")[0]
	// Someone, or Redis's eviction policy, has deleted the key that remembers it.
	if n, err := client.Del(t.Context(), keys.Once(g, "third")).Result(); n != 1 || err != nil {
		t.Fatalf("DEL: got %d, %v", n, err)
	}
	pubsubtest.Record(t, bus, g, key("third"), "third")
	pubsubtest.Eventually(t, "the pause ends", func() bool { return bus.EndPauses() == 0 })
	sink.WaitFor(t, third)
	fourth := pubsubtest.Record(t, bus, g, key("fourth"), "fourth")[0]
	sink.WaitFor(t, fourth)
	if diff := cmp.Diff([]pubsubtest.Item{first, lost, second, third, fourth}, sink.Of(g), equalItems); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	resumed := func(after pubsubtest.Item) (items []pubsubtest.Item) {
		events, _, err := bus.Resume(t.Context(), g, event.Mark{Position: after.Position}, 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			items = append(items, pubsubtest.Item{Group: g, Payload: string(e.Payload()), Position: e.Position()})
		}
		return items
	}
	for name, test := range map[string]struct {
		after pubsubtest.Item
		want  []pubsubtest.Item
	}{
		"who had it has it not again":          {lost, []pubsubtest.Item{second, third, fourth}},
		"nor from a later place":               {second, []pubsubtest.Item{third, fourth}},
		"nor what is twice in the history":     {third, []pubsubtest.Item{fourth}},
		"who went away before it has it again": {first, []pubsubtest.Item{second, again, third, fourth}},
	} {
		if diff := cmp.Diff(test.want, resumed(test.after), equalItems); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff([]pubsubtest.Item{first, second, again, third, fourth}, pubsubtest.History(t, bus, g, 100), equalItems); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// shownAndLost is a bus that has delivered an event under a position that is in no history, because
// the master died before its replica had the event. A later event is in the history.
type shownAndLost struct {
	*follower
	lost, second pubsubtest.Item
}

func showAndLose(t *testing.T) *shownAndLost {
	t.Helper()
	f := &shownAndLost{follower: startFollower(t, "early")}
	first := f.recordAs(t, "first")
	f.lost = pubsubtest.Item{Group: f.group, Payload: pubsubtest.Payload(f.group, "lost"), Position: event.NewPosition(first.Position.Milliseconds(), first.Position.Sequence()+1)}
	echo(t, f.client, f.keys.GroupChannel(f.group), f.lost.Position, "lost", f.lost.Payload)
	f.sink.WaitFor(t, f.lost)
	pubsubtest.Eventually(t, "a later millisecond", func() bool { // else the next one may have this position
		now, err := f.client.Time(t.Context()).Result()
		return err == nil && uint64(now.UnixMilli()) > f.lost.Position.Milliseconds()
	})
	f.second = f.recordAs(t, "second")
	f.sink.WaitFor(t, f.second)
	return f
}

// recordAs records a text with itself as the idempotency key.
func (f *shownAndLost) recordAs(t *testing.T, text string) pubsubtest.Item {
	t.Helper()
	return pubsubtest.Record(t, f, f.group, event.Recording{IdempotencyKey: text}, text)[0]
}

// TestResumeTellsOfARepetitionThatMayBeUnseen: an event was delivered here, lost with its master
// and recorded again. A page resumes from a position between the two. The page may have seen the
// event here, or come from a node that never had it. It must not get the event twice, so it does
// not get the event, but a gap.
func TestResumeTellsOfARepetitionThatMayBeUnseen(t *testing.T) {
	f := showAndLose(t)
	third := f.recordAs(t, "third")
	f.recordAs(t, "lost")
	fourth := f.recordAs(t, "fourth")
	for name, test := range map[string]struct {
		after    pubsubtest.Item
		want     []pubsubtest.Item
		complete bool
	}{
		"between the two":                  {f.second, []pubsubtest.Item{fourth}, false},
		"between the two, and just before": {third, []pubsubtest.Item{fourth}, false},
		"behind both":                      {fourth, nil, true},
	} {
		events, complete, err := f.Resume(t.Context(), f.group, event.Mark{Position: test.after.Position}, 100, 1<<20)
		if err != nil || complete != test.complete {
			t.Errorf("%s: got complete %t, %v, want %t", name, complete, err, test.complete)
		}
		var got []pubsubtest.Item
		for _, e := range events {
			got = append(got, pubsubtest.Item{Group: f.group, Payload: string(e.Payload()), Position: e.Position()})
		}
		if diff := cmp.Diff(test.want, got, equalItems); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestNewcomersAreToldOfARepetition: an event was delivered here, lost with its master and recorded
// again. The group does not get it twice. Members that joined between the two did not get it at
// all, so there is a gap, both live and after a pause.
func TestNewcomersAreToldOfARepetition(t *testing.T) {
	for name, test := range map[string]struct{ newcomer, pause bool }{
		"live": {true, false}, "caught up with": {true, true},
		"nobody has joined": {false, false}, "nobody has joined, and caught up with": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := showAndLose(t)
			want := f.sink.Of(f.group)
			if test.newcomer {
				pubsubtest.Subscribe(t, f, f.group)
				want = append(want, pubsubtest.Gap(f.group))
			}
			if test.pause {
				f.Pause(f.group)
			}
			f.recordAs(t, "lost")
			last := f.recordAs(t, "last")
			pubsubtest.Eventually(t, "no pause", func() bool { return f.EndPauses() == 0 })
			f.mustHave(t, append(want, last))
		})
	}
}
