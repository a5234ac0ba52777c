package pubsub_test

import (
	"context"
	"crypto/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// late publishes an event as a replaced master does: its position is in no history.
func late(tb testing.TB, client *redis.Client, keys keyspace.Keyspace, g event.Group, at event.Position, text string) pubsubtest.Item {
	tb.Helper()
	item := pubsubtest.Item{Group: g, Payload: pubsubtest.Payload(g, text), Position: at}
	if err := client.Publish(tb.Context(), keys.GroupChannel(g), at.String()+" "+item.Payload).Err(); err != nil {
		tb.Fatal(err)
	}
	return item
}

// TestHungMasterWakesUp: events that a master passes on after its replacement raise the mark above
// everything that the new master has. Events in the new master's history still come, once.
func TestHungMasterWakesUp(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"a few events": 3, "as many as are remembered": 900} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFollower(t, "early")
			want := f.record(t, texts(0, 5)...)
			f.sink.WaitFor(t, want[4])
			future := want[4].Position.Milliseconds() + 3600_000
			for i := range count {
				want = append(want, late(t, f.client, f.keys, f.group, event.NewPosition(future, uint64(i)), "late "+strconv.Itoa(i)))
			}
			f.sink.WaitFor(t, want[len(want)-1])
			f.cut(t)
			want = append(want, pubsubtest.Gap(f.group))
			want = append(want, f.record(t, texts(5, 50)...)...)
			f.mend()
			f.sink.WaitFor(t, want[len(want)-1])
			want = append(want, f.record(t, "live")...) // its position is below those, too
			f.mustHave(t, want)
			f.cut(t)
			f.mustHave(t, append(want, f.record(t, texts(55, 3)...)...)) // and the mark works again
		})
	}
}

// TestLateEventAmongKnownOnes: events with which a group has caught up also come on the channel.
// They stay known when a master that woke up inserts an event that is in no history, before or
// among them.
func TestLateEventAmongKnownOnes(t *testing.T) {
	for _, count := range []int{3, 900, 1900} {
		t.Run(strconv.Itoa(count), func(t *testing.T) {
			client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
			bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, PublishTimeout: calm, HistoryTimeout: calm})
			g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other")
			early := pubsubtest.Record(t, bus, g, event.Recording{MaxLength: 2000}, "early")[0]
			var sink pubsubtest.Recorder
			pubsubtest.Start(t, bus, &sink)
			pubsubtest.Subscribe(t, bus, g, other)
			bus.Pause(g)
			questions := newGate()
			questions.questions = true
			client.AddHook(questions)
			pubsubtest.Eventually(t, "the pause ends", func() bool { return bus.EndPauses() == 0 })
			<-questions.shut // from here on, arriving messages are held
			future := early.Position.Milliseconds() + 3600_000
			first := late(t, client, keys, g, event.NewPosition(future, 0), "first")
			known := pubsubtest.Record(t, bus, g, event.Recording{MaxLength: 2000}, texts(0, count)...)
			second := late(t, client, keys, g, event.NewPosition(future, 1), "second")
			known = append(known, pubsubtest.Record(t, bus, g, event.Recording{MaxLength: 2000}, "last")...)
			pubsubtest.Publish(t, bus, other, "all have come")
			sink.WaitFor(t, pubsubtest.Message(other, "all have come"))
			close(questions.open)
			sink.WaitFor(t, second)
			live := pubsubtest.Record(t, bus, g, event.Recording{}, "live")[0]
			sink.WaitFor(t, live)
			want := append(known, first, second, pubsubtest.Gap(g), live) // it is below those two
			if diff := cmp.Diff(want, sink.Of(g), equalItems); diff != "" {
				t.Errorf("items differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestClockOfRedisGoesBack: Redis keeps the order of a history whatever its clock does, so
// positions go back only if the history was lost. Members get a gap, even on a link that stays up
// and right after catching up.
func TestClockOfRedisGoesBack(t *testing.T) {
	for name, test := range map[string]struct{ lost, caughtUp bool }{
		"and everything is lost":                    {lost: true},
		"and everything that was caught up is lost": {lost: true, caughtUp: true},
		"and nothing is lost":                       {},
		"and nothing that was caught up is lost":    {caughtUp: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFollower(t, "early")
			// The clock was an hour ahead, and is set right.
			ahead := pubsubtest.Item{Group: f.group, Payload: pubsubtest.Payload(f.group, "ahead"), Position: event.NewPosition(uint64(time.Now().Add(time.Hour).UnixMilli()), 0)}
			if err := f.client.XAdd(t.Context(), &redis.XAddArgs{Stream: f.keys.History(f.group), ID: ahead.Position.String(), Values: []string{"event", ahead.Payload}}).Err(); err != nil {
				t.Fatal(err)
			}
			var want []pubsubtest.Item
			if test.caughtUp {
				f.cut(t)
				want = append(want, ahead) // an event that was not published
			}
			want = append(want, f.record(t, "before")...)
			f.mend()
			f.sink.WaitFor(t, want[len(want)-1])
			if test.lost {
				if err := f.client.FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				want = append(want, pubsubtest.Gap(f.group))
			}
			more := f.record(t, texts(0, 3)...)
			if back := more[0].Position.Compare(ahead.Position) < 0; back != test.lost {
				t.Fatalf("positions go back: got %t, want %t", back, test.lost)
			}
			f.mustHave(t, append(want, more...))
		})
	}
}

// TestVanishedProperty: events that are in no history come in between, links break, and all data
// are lost. Recorded events come once and in order, and members get a gap for vanished ones.
func TestVanishedProperty(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	g := testkit.Group(t, "acme", "room")
	rapid.Check(t, func(rt *rapid.T) {
		keys := testkit.KeysUnder(rt, rand.Text())
		bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, MinBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond})
		var sink pubsubtest.Recorder
		ctx, stop := context.WithTimeout(t.Context(), pubsubtest.Patience)
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		running.Go(func() { _ = bus.Run(ctx, &sink) })
		pubsubtest.Record(t, bus, g, event.Recording{}, "early") // so that nothing looks transient
		pubsubtest.Subscribe(t, bus, g)
		var want []pubsubtest.Item
		n, vanished := 0, false
		record := func(count int) {
			want = append(want, pubsubtest.Record(t, bus, g, event.Recording{}, texts(n, count)...)...)
			n += count
		}
		record(1)
		rt.Repeat(map[string]func(*rapid.T){
			"record": func(rt *rapid.T) { record(rapid.IntRange(1, 40).Draw(rt, "count")) },
			"late": func(*rapid.T) {
				sink.WaitFor(t, want[len(want)-1]) // so there is a link
				n++
				late(t, client, keys, g, event.NewPosition(want[0].Position.Milliseconds()+3600_000, uint64(n)), "late")
				vanished = true
			},
			"cut": func(*rapid.T) { _ = client.ClientKillByFilter(ctx, "TYPE", "pubsub").Err() },
		})
		record(1)
		sink.WaitFor(t, want[len(want)-1])
		var got []pubsubtest.Item
		gaps := 0
		ahead := want[0].Position.Milliseconds() + 3600_000
		for _, item := range sink.Of(g) {
			switch {
			case item == pubsubtest.Gap(g):
				gaps++
			case item.Position.Milliseconds() < ahead:
				got = append(got, item)
			}
		}
		if diff := cmp.Diff(want, got, equalItems); diff != "" {
			rt.Fatalf("items differ (-want +got):\n%s", diff)
		}
		if gaps > 0 && !vanished {
			rt.Fatalf("gaps: got %d, want none, because nothing vanished", gaps)
		}
	})
}

// TestRememberedPositionsAreBounded: an organization with many groups remembers no more positions
// than one with few, and none when its groups are left.
func TestRememberedPositionsAreBounded(t *testing.T) {
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, PublishTimeout: calm, EventsPerSecond: -1, BytesPerSecond: -1})
	var sink pubsubtest.Recorder
	pubsubtest.Start(t, bus, &sink)
	const groups, each = 100, 1000
	var last pubsubtest.Item
	for i := range groups {
		g := testkit.Group(t, "acme", strconv.Itoa(i))
		pubsubtest.Subscribe(t, bus, g)
		pipe := client.Pipeline()
		for n := range each {
			last = pubsubtest.Item{Group: g, Payload: pubsubtest.Payload(g, strconv.Itoa(n)), Position: event.NewPosition(1, uint64(n))}
			pipe.Publish(t.Context(), keys.GroupChannel(g), last.Position.String()+" "+last.Payload)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sink.WaitFor(t, last)
	g := last.Group
	if got := bus.SeenBytes(g); got > pubsub.SeenLimit || got < pubsub.SeenLimit/2 {
		t.Errorf("remembered: got %d bytes, want up to %d, and most of that", got, pubsub.SeenLimit)
	}
	for i := range groups - 1 {
		bus.Unsubscribe(testkit.Group(t, "acme", strconv.Itoa(i)))
	}
	pubsubtest.Eventually(t, "what is left is that of one group", func() bool { return bus.WantedGroups() == 1 })
	if got, most := bus.SeenBytes(g), pubsub.SeenLimit/groups*2; got > most {
		t.Errorf("remembered of one group: got %d bytes, want up to %d", got, most)
	}
	bus.Unsubscribe(g)
	pubsubtest.Eventually(t, "nothing is left", func() bool { return bus.WantedGroups() == 0 && bus.SeenBytes(g) == 0 })
}
