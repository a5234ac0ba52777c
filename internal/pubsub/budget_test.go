package pubsub_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// text returns the text in an Item's payload.
func text(t *testing.T, i pubsubtest.Item) string {
	t.Helper()
	var fields struct{ Text string }
	if err := json.Unmarshal([]byte(i.Payload), &fields); err != nil {
		t.Fatal(err)
	}
	return fields.Text
}

// TestFloodHarmsNobodyElse: one organization publishes as fast as Redis can take it, far beyond its
// budget, while another publishes one event at a time.
func TestFloodHarmsNobodyElse(t *testing.T) {
	// Events per second of the budget, events per round trip, and events in total. They are few
	// enough for Redis to buffer even if this process does not run for a while. The quiet
	// organization publishes one event for each batch, which a budget's burst covers.
	const rate, batch, published = 1000, 250, 50000
	client := redistest.NewClient(t, redistest.Start(t))
	keys, reg := newKeyspace(t), prometheus.NewRegistry()
	core, logs := observer.New(zap.WarnLevel)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, EventsPerSecond: rate, Registerer: reg, Log: zap.New(core)})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	noisy, quiet := testkit.Group(t, "noisy", "room"), testkit.Group(t, "quiet", "room")
	start := time.Now()
	pubsubtest.Subscribe(t, bus, noisy, quiet)

	batches := make(chan error, published/batch) // one result for each batch; closed by the flood
	go func() {
		defer close(batches)
		for first := 0; first < published; first += batch {
			pipe := client.Pipeline()
			for i := range batch {
				pipe.Publish(t.Context(), keys.GroupChannel(noisy), pubsubtest.Payload(noisy, strconv.Itoa(first+i)))
			}
			_, err := pipe.Exec(t.Context())
			batches <- err
		}
	}()
	var want []pubsubtest.Item
	for err := range batches {
		if err != nil {
			t.Fatalf("flood: %v", err)
		}
		one := strconv.Itoa(len(want))
		pubsubtest.Publish(t, bus, quiet, one)
		want = append(want, pubsubtest.Message(quiet, one))
		sink.WaitFor(t, want[len(want)-1])
	}
	if diff := cmp.Diff(want, sink.Of(quiet), equalItems); diff != "" {
		t.Errorf("items of the quiet organization differ (-want +got):\n%s", diff)
	}

	// The pause ends, and the group works as before.
	pubsubtest.Eventually(t, "no pause", func() bool { return bus.EndPauses() == 0 }) // as soon as the budget allows
	if got := counter(t, reg, "orgcast_bus_paused_groups"); got != 0 {
		t.Errorf("paused groups: got %v, want 0", got)
	}
	pubsubtest.Subscribe(t, bus, noisy) // when it returns, the group is subscribed again
	pubsubtest.Publish(t, bus, noisy, "last")
	sink.WaitFor(t, pubsubtest.Message(noisy, "last"))

	got := sink.Of(noisy)
	if most := rate*time.Since(start).Seconds() + rate + 2; float64(len(got)) > 2*most {
		t.Errorf("items of the flood: got %d of %d, want twice the budget of %.0f at most", len(got), published, most)
	}
	next, told := 0, false // the next expected number, and whether a gap was reported since the last one
	for i, item := range got[:len(got)-1] {
		if item == pubsubtest.Gap(noisy) {
			told = true
			continue
		}
		n, err := strconv.Atoi(text(t, item))
		if err != nil {
			t.Fatal(err)
		}
		if n < next || n > next && !told {
			t.Errorf("item %d of the flood: got event %d after %d, gap told: %t", i, n, next-1, told)
		}
		next, told = n+1, false
	}
	if !told && next != published {
		t.Errorf("events after %d were lost and no gap was told", next-1)
	}
	if next == published {
		t.Error("the whole flood was taken")
	}
	if got := counter(t, reg, "orgcast_events_dropped_total"); got == 0 {
		t.Error("dropped: got 0, want some")
	}
	lines := logs.FilterMessageSnippet("group paused").All()
	if most := 1 + int(time.Since(start)/time.Second); len(lines) == 0 || len(lines) > most {
		t.Errorf("log lines: got %d, want 1 to %d", len(lines), most)
	}
}

// TestPausesAreLoggedPerOrganization: an organization over its budget does not hide the log lines
// of another.
func TestPausesAreLoggedPerOrganization(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	core, logs := observer.New(zap.WarnLevel)
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{
		SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, EventsPerSecond: 0.001, BytesPerSecond: -1, Log: zap.New(core),
	})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	for _, org := range []string{"acme", "globex"} {
		g := testkit.Group(t, org, "room")
		pubsubtest.Subscribe(t, bus, g)
		pubsubtest.Publish(t, bus, g, "1", "2")
	}
	for _, org := range []string{"acme", "globex"} {
		g := testkit.Group(t, org, "room")
		pubsubtest.Eventually(t, "the pause of "+org+" is in the log", func() bool {
			return logs.FilterMessageSnippet("group paused").FilterField(zap.Stringer("group", g)).Len() == 1
		})
	}
}

// TestPausedGroup uses a budget that the first event exceeds for longer than the test runs.
func TestPausedGroup(t *testing.T) {
	for name, opt := range map[string]pubsub.Options{
		"events": {EventsPerSecond: 0.001, BytesPerSecond: -1},
		"bytes":  {EventsPerSecond: -1, BytesPerSecond: 1},
	} {
		t.Run(name, func(t *testing.T) {
			client := redistest.NewClient(t, redistest.Start(t))
			keys, reg := newKeyspace(t), prometheus.NewRegistry()
			opt.LinkTimeout, opt.Registerer = calm, reg
			bus := pubsub.NewRedis(client, keys, opt)
			var sink pubsubtest.Recorder
			pubsubtest.Start(t, bus, &sink)
			paused, left := testkit.Group(t, "acme", "paused"), testkit.Group(t, "acme", "left")
			calmGroup, other := testkit.Group(t, "acme", "calm"), testkit.Group(t, "rival", "room")
			pubsubtest.Subscribe(t, bus, paused, left, calmGroup, other)
			long := strings.Repeat("x", 1000)
			pubsubtest.Publish(t, bus, paused, long, "1", "2")
			pubsubtest.Publish(t, bus, left, "3")
			pubsubtest.Publish(t, bus, other, "here")
			sink.WaitFor(t, pubsubtest.Message(other, "here"))

			channels := []string{keys.GroupChannel(paused), keys.GroupChannel(left), keys.GroupChannel(calmGroup)}
			unsubscribed := func() bool {
				n, err := client.PubSubNumSub(t.Context(), channels...).Result()
				if err != nil {
					t.Fatal(err)
				}
				return n[channels[0]] == 0 && n[channels[1]] == 0 && n[channels[2]] == 1
			}
			pubsubtest.Eventually(t, "unsubscribed", unsubscribed)
			if got := counter(t, reg, "orgcast_bus_paused_groups"); got != 2 {
				t.Errorf("paused groups: got %v, want 2", got)
			}
			// The second event of the same group may find it already unsubscribed.
			if got := counter(t, reg, "orgcast_events_dropped_total"); got != 2 && got != 3 {
				t.Errorf("dropped: got %v, want 2 or 3", got)
			}
			pubsubtest.Eventually(t, "healthy", func() bool { return bus.Healthy() == nil })

			// Joining does not wait, and leaving and rejoining does not end the pause.
			pubsubtest.Subscribe(t, bus, paused)
			bus.Unsubscribe(paused)
			bus.Unsubscribe(paused)
			pubsubtest.Subscribe(t, bus, paused)
			bus.Unsubscribe(left)
			pubsubtest.Subscribe(t, bus, testkit.Group(t, "rival", "barrier"))
			if !unsubscribed() {
				t.Error("a group came back although its organization has no budget left")
			}

			// A new link begins without pauses, and the group gets its gap.
			if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
			sink.WaitFor(t, pubsubtest.Gap(paused))
			if got := counter(t, reg, "orgcast_bus_paused_groups"); got != 0 {
				t.Errorf("paused groups on a new link: got %v, want 0", got)
			}
			want := []pubsubtest.Item{pubsubtest.Message(paused, long), pubsubtest.Gap(paused)}
			if diff := cmp.Diff(want, sink.Of(paused), equalItems); diff != "" {
				t.Errorf("items differ (-want +got):\n%s", diff)
			}
			if got := sink.Of(left); len(got) != 0 {
				t.Errorf("items of a group that was left: got %v, want none", got)
			}
			for _, g := range []event.Group{paused, calmGroup, other, testkit.Group(t, "rival", "barrier")} {
				bus.Unsubscribe(g)
			}
			pubsubtest.Eventually(t, "nothing is remembered", func() bool { return bus.WantedGroups()+bus.Meters() == 0 })
		})
	}
}

// TestNoBudget receives twice the default budget's burst at once.
func TestNoBudget(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{
		LinkTimeout: calm, PublishTimeout: calm, EventsPerSecond: -1, BytesPerSecond: -1,
	})
	out := make([]event.Publication, pubsub.DefaultEventsPerSecond/2)
	sink := &batchSink{size: len(out), complete: make(chan struct{}, 1)}
	pubsubtest.Start(t, bus, sink)
	g := testkit.Group(t, "acme", "room")
	pubsubtest.Subscribe(t, bus, g)
	for i := range out {
		out[i] = event.Publication{Group: g, Payload: []byte(pubsubtest.Payload(g, strconv.Itoa(i)))}
	}
	for i, r := range bus.PublishAll(t.Context(), out) {
		if r.Err != nil {
			t.Fatalf("PublishAll: event %d: %v", i, r.Err)
		}
	}
	select {
	case <-sink.complete:
	case <-time.After(pubsubtest.Patience):
		t.Error("not every event came")
	}
}
