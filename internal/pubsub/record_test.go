package pubsub_test

import (
	"strconv"
	"strings"
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

// TestHistoryDropsForeignEntries: entries that were added to a history without the checks are not
// delivered.
func TestHistoryDropsForeignEntries(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys, reg := newKeyspace(t), prometheus.NewRegistry()
	bus := pubsub.NewRedis(client, keys, pubsub.Options{Registerer: reg})
	g := testkit.Group(t, "acme", "room")
	first := pubsubtest.Record(t, bus, g, event.Recording{}, "first")
	for _, values := range [][]string{
		{"event", `{"type":"t","organization_id":"rival"}`},
		{"event", `{"type":"t"}`},
		{"event", `no JSON`},
		{"event", `1-1 {"type":"t","organization_id":"acme"}`},
		{"other", `{"type":"t","organization_id":"acme"}`},
	} {
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.History(g), Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	last := pubsubtest.Record(t, bus, g, event.Recording{}, "last")
	want := append(first, last...)
	if diff := cmp.Diff(want, pubsubtest.History(t, bus, g, 100), equalItems); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if got := counter(t, reg, "orgcast_events_dropped_total"); got != 5 {
		t.Errorf("dropped: got %v, want 5", got)
	}
	events, complete, err := bus.Since(t.Context(), g, first[0].Position, 100)
	if err != nil || len(events) != 1 || events[0].Position() != last[0].Position || !complete {
		t.Errorf("Since: got %v, %t, %v, want the last event and complete", events, complete, err)
	}
}

// TestSinceSeesDeletedEntries: if someone deleted an entry by hand, the answer says that it is
// incomplete.
func TestSinceSeesDeletedEntries(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys := newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{})
	g := testkit.Group(t, "acme", "room")
	items := pubsubtest.Record(t, bus, g, event.Recording{}, "0", "1", "2", "3")
	if err := client.XDel(t.Context(), keys.History(g), items[2].Position.String()).Err(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, false, true} { // the third is not there to resume from
		if _, complete, err := bus.Since(t.Context(), g, items[i].Position, 100); err != nil || complete != want {
			t.Errorf("after %d: got complete %t, %v, want %t", i, complete, err, want)
		}
	}
	if _, complete, err := bus.Since(t.Context(), g, event.Position{}, 100); err != nil || complete {
		t.Errorf("after nothing: got complete %t, %v, want false", complete, err)
	}
}

// TestRecordOutlivesScriptFlush: Redis may forget the script at any time.
func TestRecordOutlivesScriptFlush(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{})
	g := testkit.Group(t, "acme", "room")
	for range 3 {
		pubsubtest.Record(t, bus, g, event.Recording{}, "x")
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(pubsubtest.History(t, bus, g, 10)); got != 3 {
		t.Errorf("history: got %d, want 3", got)
	}
}

// TestRecordExpires: a group that gets no more events leaves nothing in Redis, including keys.
func TestRecordExpires(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys := newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{})
	g := testkit.Group(t, "acme", "room")
	pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: "k"}, "x")
	for _, key := range []string{keys.History(g), keys.Once(g, "k")} {
		ttl, err := client.PTTL(t.Context(), key).Result()
		if err != nil || ttl <= event.DefaultHistoryAge-time.Minute || ttl > event.DefaultHistoryAge {
			t.Errorf("%s expires in %v (%v), want about %v", key, ttl, err, event.DefaultHistoryAge)
		}
	}
	pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: "l", MaxAge: time.Millisecond}, "x")
	pubsubtest.Record(t, bus, g, event.Recording{MaxAge: time.Millisecond}, "x")
	pubsubtest.Eventually(t, "only the key with the long age is left", func() bool {
		names, err := client.Keys(t.Context(), "*").Result()
		return err == nil && len(names) == 1 && names[0] == keys.Once(g, "k")
	})
}

// TestRecorded: Recorded finds the event recorded under an idempotency key, in its own group only.
func TestRecorded(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys := newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{})
	g := testkit.Group(t, "acme", "room")
	items := pubsubtest.Record(t, bus, g, event.Recording{IdempotencyKey: "k"}, "x")
	for name, test := range map[string]struct {
		org, group, key string
		ok              bool
	}{
		"found": {"acme", "room", "k", true}, "another key": {"acme", "room", "l", false},
		"another group": {"acme", "other", "k", false}, "another organization": {"globex", "room", "k", false},
	} {
		at, ok, err := bus.Recorded(t.Context(), testkit.Group(t, test.org, test.group), test.key)
		if err != nil || ok != test.ok || ok != (at == items[0].Position) {
			t.Errorf("%s: got %v, %v, %v, want %v at %v", name, at, ok, err, test.ok, items[0].Position)
		}
	}
	if err := client.Set(t.Context(), keys.Once(g, "odd"), "no position", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"odd", "", "a b"} {
		if at, ok, err := bus.Recorded(t.Context(), g, key); err == nil || ok {
			t.Errorf("%q: got %v, %v, %v, want an error", key, at, ok, err)
		}
	}
}

// TestRecordFailsWithoutHarm: if a key of another type is in the place of a history, Record returns
// an error, and nothing is published.
func TestRecordFailsWithoutHarm(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	keys := newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{LinkTimeout: calm})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other")
	pubsubtest.Subscribe(t, bus, g, other)
	if err := client.Set(t.Context(), keys.History(g), "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Record(t.Context(), g, []byte(pubsubtest.Payload(g, "x")), event.Recording{}); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("Record: got %v, want WRONGTYPE", err)
	}
	if _, err := bus.History(t.Context(), g, 1); err == nil {
		t.Error("History: got nil, want an error")
	}
	if _, _, err := bus.Since(t.Context(), g, event.Position{}, 1); err == nil {
		t.Error("Since: got nil, want an error")
	}
	last := pubsubtest.Record(t, bus, other, event.Recording{}, "last")
	sink.WaitFor(t, last[0])
	if got := len(sink.Items()); got != 1 {
		t.Errorf("items: got %v, want the last alone", sink.Items())
	}
}

// TestHistoryIsReadInBounds: a member of a group may ask for its history, and for missed events.
// Both answers are limited in bytes, even if the member asks for far more.
func TestHistoryIsReadInBounds(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm, HistoryTimeout: calm})
	g := testkit.Group(t, "acme", "room")
	first := pubsubtest.Record(t, bus, g, event.Recording{}, "first")[0].Position
	const many = 300
	large := strings.Repeat("x", pubsub.HistoryBytes/100)
	var last event.Position
	for range many {
		last = pubsubtest.Record(t, bus, g, event.Recording{}, large)[0].Position
	}
	check := func(what string, events []*event.Event, err error) {
		t.Helper()
		bytes := 0
		for _, e := range events {
			bytes += len(e.Payload())
		}
		if err != nil || bytes > pubsub.HistoryBytes || bytes < pubsub.HistoryBytes*9/10 {
			t.Fatalf("%s: got %d bytes, %v, want nearly %d", what, bytes, err, pubsub.HistoryBytes)
		}
		if got := events[len(events)-1].Position(); got != last {
			t.Errorf("%s: the newest is %v, want %v", what, got, last)
		}
	}
	history, err := bus.History(t.Context(), g, 1000)
	check("History", history, err)
	missed, complete, err := bus.Since(t.Context(), g, first, 1000)
	check("Since", missed, err)
	if complete {
		t.Error("Since: complete, though most is left out")
	}
	near := history[len(history)-3].Position()
	if missed, complete, err = bus.Since(t.Context(), g, near, 1000); len(missed) != 2 || !complete || err != nil {
		t.Errorf("Since the last but two: got %d events, complete %v, %v, want 2", len(missed), complete, err)
	}
}

// TestLargeHistoryIsReadByBytes: Redis sends no more of a history than the bytes asked for, even if
// small events come before large ones.
func TestLargeHistoryIsReadByBytes(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm, HistoryTimeout: calm})
	g := testkit.Group(t, "acme", "room")
	for range 100 {
		pubsubtest.Record(t, bus, g, event.Recording{}, strings.Repeat("x", 200<<10))
	}
	for range 300 {
		pubsubtest.Record(t, bus, g, event.Recording{}, "small")
	}
	sent := func() int {
		text := client.Info(t.Context(), "stats").Val()
		_, rest, _ := strings.Cut(text, "total_net_output_bytes:")
		n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\r\n", 2)[0]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const room = 500 << 10
	before := sent()
	events, complete, err := bus.Resume(t.Context(), g, event.Mark{Position: event.NewPosition(5, 5)}, 1000, room)
	if complete || err != nil || len(events) < 301 {
		t.Errorf("Resume: got %d events, complete %v, %v, want more than 300 and not all", len(events), complete, err)
	}
	const page = 4 << 20 // the most that Redis sends at once
	if got := sent() - before; got > room+page {
		t.Errorf("Resume: Redis sent %d bytes for %d", got, room)
	}
	before = sent()
	history, err := bus.History(t.Context(), g, 1000)
	if err != nil || len(history) < 305 {
		t.Errorf("History: got %d events, %v, want more", len(history), err)
	}
	if got := sent() - before; got > pubsub.HistoryBytes+page {
		t.Errorf("History: Redis sent %d bytes for %d", got, pubsub.HistoryBytes)
	}
}

// TestResumeOverPages: an answer with many small events is complete.
func TestResumeOverPages(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{PublishTimeout: calm, HistoryTimeout: calm})
	g := testkit.Group(t, "acme", "room")
	all := pubsubtest.Record(t, bus, g, event.Recording{}, texts(0, 600)...)
	for _, seen := range []int{0, 300, 470, 471, 472, 473, 599} {
		missed, complete, err := bus.Since(t.Context(), g, all[seen].Position, 1000)
		if err != nil || !complete || len(missed) != len(all)-1-seen {
			t.Fatalf("after event %d: got %d events, complete %v, %v, want %d", seen, len(missed), complete, err, len(all)-1-seen)
		}
		for i, e := range missed {
			if want := all[seen+1+i].Position; e.Position() != want {
				t.Fatalf("after event %d: event %d is %v, want %v", seen, i, e.Position(), want)
			}
		}
	}
}

// TestResumeInAnotherLife: the mark before the first event of a history is valid only in the epoch
// of the organization's data in which it was given.
func TestResumeInAnotherLife(t *testing.T) {
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{HistoryTimeout: calm})
	acme, globex := testkit.Group(t, "acme", "room"), testkit.Group(t, "globex", "room")
	for g, epoch := range map[event.Group]string{acme: "NOW", globex: "THEIRS"} {
		if err := client.Set(t.Context(), keys.Epoch(g.Organization()), epoch, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for epoch, want := range map[string]bool{"NOW": true, "BEFORE": false, "THEIRS": false, "": false} {
		events, complete, err := bus.Resume(t.Context(), acme, event.Mark{Epoch: epoch}, 10, 1<<20)
		if err != nil || complete != want || len(events) != 0 {
			t.Errorf("epoch %q: got %d events, complete %t, %v, want none, %t", epoch, len(events), complete, err, want)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	client := redistest.NewClient(b, redistest.Start(b))
	bus := pubsub.NewRedis(client, newKeyspace(b), pubsub.Options{PublishTimeout: time.Minute})
	g := testkit.Group(b, "acme", "room")
	payload := []byte(pubsubtest.Payload(g, strings.Repeat("x", 200)))
	b.Run("publish", func(b *testing.B) {
		for b.Loop() {
			if err := bus.Publish(b.Context(), g, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		for b.Loop() {
			if _, err := bus.Record(b.Context(), g, payload, event.Recording{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, record := range map[string]*event.Recording{"publish": nil, "record": {}} {
		b.Run(name+" 500", func(b *testing.B) {
			out := make([]event.Publication, 500)
			for i := range out {
				out[i] = event.Publication{Group: g, Payload: payload, Record: record}
			}
			for b.Loop() {
				for _, r := range bus.PublishAll(b.Context(), out) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(out)), "ns/event")
		})
	}
}
