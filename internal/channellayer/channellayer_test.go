package channellayer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/channellayer"
	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// onEach runs a test with both layers.
func onEach(t *testing.T, test func(s *site, server *redistest.Server)) {
	t.Helper()
	for _, kind := range []channellayer.Kind{channellayer.Core, channellayer.PubSub} {
		t.Run(string(kind), func(t *testing.T) {
			server := redistest.StartServer(t)
			test(&site{t, kind, redistest.NewClient(t, server.Addr)}, server)
		})
	}
}

func TestEventsReachTheirOrganization(t *testing.T) {
	onEach(t, func(s *site, server *redistest.Server) {
		t := s.t
		l := channellayer.New(one(redistest.NewClient(t, server.Addr)), options(s.kind))
		var sink pubsubtest.Recorder
		start(t, l, &sink)
		ada, bob, other := group("acme", "report_7"), group("globex", "report_7"), group("acme", "report_8")
		join(t, l, ada, bob, other, ada)
		if got := s.members("report_7"); got != 1 {
			t.Errorf("got %d memberships, want 1 for both organizations", got)
		}
		for _, m := range []message{
			{"report_7", note("acme", "one")},
			{"report_7", note("globex", "two")},
			{"report_7", note("initech", "nobody's")},
			{"report_7", []string{"type", "note", "text", "without organization"}},
			{"report_8", note("globex", "not wanted")},
			{"report_8", note("acme", "three")},
			{"report_7", note("acme", "four")},
		} {
			s.send(m)
		}
		sink.WaitFor(t, item(ada, "four"))
		sink.WaitFor(t, item(other, "three"))
		if got, want := sink.Of(ada), []pubsubtest.Item{item(ada, "one"), item(ada, "four")}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got, want := sink.Of(bob), []pubsubtest.Item{item(bob, "two")}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := len(sink.Items()); got != 4 {
			t.Errorf("got %d events, want 4: %v", got, sink.Items())
		}

		l.Unsubscribe(ada)
		l.Unsubscribe(bob)
		s.send(message{"report_7", note("acme", "five")})
		sink.WaitFor(t, item(ada, "five"))
		l.Unsubscribe(ada)
		testkit.Eventually(t, "the node leaves the group", func() bool { return s.members("report_7") == 0 })
	})
}

func TestLeavesAtTheEnd(t *testing.T) {
	onEach(t, func(s *site, server *redistest.Server) {
		t := s.t
		l := channellayer.New(one(redistest.NewClient(t, server.Addr)), options(s.kind))
		stop := start(t, l, new(pubsubtest.Recorder))
		var groups []event.Group
		for i := range 300 {
			groups = append(groups, group("acme", fmt.Sprintf("g%d", i)))
		}
		join(t, l, groups...)
		stop()
		for _, g := range groups {
			testkit.Eventually(t, "the node leaves "+g.String(), func() bool { return s.members(g.Name()) == 0 })
		}
	})
}

func TestLostConnectionIsAGap(t *testing.T) {
	onEach(t, func(s *site, server *redistest.Server) {
		t := s.t
		l := channellayer.New(one(redistest.NewClient(t, server.Addr)), options(s.kind))
		var sink pubsubtest.Recorder
		start(t, l, &sink)
		ada, bob := group("acme", "report_7"), group("globex", "report_7")
		join(t, l, ada, bob)
		testkit.Eventually(t, "the layer is healthy", func() bool { return l.Healthy() == nil })
		server.Stop()
		testkit.Eventually(t, "the layer is not healthy", func() bool { return l.Healthy() != nil })
		server.Restart()
		sink.WaitFor(t, pubsubtest.Gap(ada))
		sink.WaitFor(t, pubsubtest.Gap(bob))
		s.send(message{"report_7", note("acme", "after")})
		sink.WaitFor(t, item(ada, "after"))
		testkit.Eventually(t, "the layer is healthy again", func() bool { return l.Healthy() == nil })
	})
}

func TestHungServerIsAGap(t *testing.T) {
	onEach(t, func(s *site, server *redistest.Server) {
		t := s.t
		core, logs := observer.New(zapcore.WarnLevel)
		o := options(s.kind)
		o.Log = zap.New(core)
		l := channellayer.New(one(redistest.NewClient(t, server.Addr)), o)
		var sink pubsubtest.Recorder
		start(t, l, &sink)
		ada := group("acme", "report_7")
		join(t, l, ada)
		server.Pause()
		testkit.Eventually(t, "the connection counts as lost", func() bool { return logs.FilterMessage("channel layer connection lost").Len() > 0 })
		if l.Healthy() == nil {
			t.Error("healthy without a connection")
		}
		server.Resume()
		sink.WaitFor(t, pubsubtest.Gap(ada))
	})
}

func TestWithoutServer(t *testing.T) {
	onEach(t, func(s *site, server *redistest.Server) {
		t := s.t
		server.Stop()
		l := channellayer.New(one(redistest.NewClient(t, server.Addr)), options(s.kind))
		start(t, l, new(pubsubtest.Recorder))
		if l.Healthy() == nil {
			t.Error("healthy without a server")
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g := group("acme", "report_7")
		if err := l.Subscribe(ctx, g); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		server.Restart()
		join(t, l, g)
		if err := l.Run(ctx, nil); !errors.Is(err, channellayer.ErrRunning) {
			t.Errorf("got %v, want %v", err, channellayer.ErrRunning)
		}
	})
}

// TestGroupNamesOfTheCoreLayer: a group that the core layer does not allow has no events there, and
// does not keep anybody from joining.
func TestGroupNamesOfTheCoreLayer(t *testing.T) {
	addr := redistest.Start(t)
	l := channellayer.New(one(redistest.NewClient(t, addr)), options(channellayer.Core))
	g := group("acme", strings.Repeat("g", event.MaxGroupNameLength))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Subscribe(ctx, g); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	l.Unsubscribe(g)
}

// many are events for groups in turn.
func many(groups []event.Group, each int) (list []message) {
	for n := range each {
		for _, g := range groups {
			list = append(list, message{g.Name(), note("acme", fmt.Sprint(n))})
		}
	}
	return list
}

// TestQueuesKeepWhatOneWouldLose: of 1,280 unread events for 64 groups, one queue keeps 100, and
// each group gets a gap. Sixteen keep all.
func TestQueuesKeepWhatOneWouldLose(t *testing.T) {
	const each = 20
	for queues, kept := range map[int]int{1: 100, channellayer.DefaultQueues: 64 * each} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			addr := redistest.Start(t)
			s := &site{t, channellayer.Core, redistest.NewClient(t, addr)}
			o := options(channellayer.Core)
			o.Queues = queues
			l := channellayer.New(one(redistest.NewClient(t, addr)), o)
			var sink pubsubtest.Recorder
			start(t, l, &sink)
			var groups []event.Group
			for i := range 64 {
				groups = append(groups, group("acme", fmt.Sprintf("g%d", i)))
			}
			join(t, l, groups...)
			if got := s.send(many(groups, each)...); got != kept {
				t.Fatalf("the queues keep %d events, want %d", got, kept)
			}
			lost := kept < 64*each
			delivered := 0
			testkit.Eventually(t, "what was kept comes", func() bool {
				delivered = 0
				for _, i := range sink.Items() {
					if i.Payload != "" {
						delivered++
					}
				}
				return delivered == kept
			})
			if lost {
				for _, g := range groups {
					sink.WaitFor(t, pubsubtest.Gap(g))
				}
				return
			}
			for _, g := range groups {
				if got := len(sink.Of(g)); got != each {
					t.Errorf("%s: got %d events and gaps, want %d events", g, got, each)
				}
			}
		})
	}
}

func TestFullQueueIsAGapForItsGroupsAlone(t *testing.T) {
	addr := redistest.Start(t)
	s := &site{t, channellayer.Core, redistest.NewClient(t, addr)}
	o := options(channellayer.Core)
	o.Queues = 2
	l := channellayer.New(one(redistest.NewClient(t, addr)), o)
	var sink pubsubtest.Recorder
	start(t, l, &sink)
	busy, quiet := group("acme", "busy"), group("acme", "quiet")
	join(t, l, busy, quiet)
	if got := s.send(many([]event.Group{busy}, 99)...); got != 99 {
		t.Fatalf("the queue keeps %d, want 99", got)
	}
	sink.WaitFor(t, item(busy, "98"))
	if got := len(sink.Of(busy)); got != 99 {
		t.Errorf("got %d events and gaps, want 99 events", got)
	}
	if got := s.send(many([]event.Group{busy}, 101)...); got != 100 {
		t.Fatalf("the queue keeps %d, want 100", got)
	}
	sink.WaitFor(t, pubsubtest.Gap(busy))
	s.send(message{"quiet", note("acme", "end")})
	sink.WaitFor(t, item(quiet, "end"))
	if got := sink.Of(quiet); len(got) != 1 {
		t.Errorf("got %v for the group of the other queue, want one event", got)
	}
}

// TestRemovedBySender: after a sender has removed the node from a group, the node adds itself again
// and reports a gap.
func TestRemovedBySender(t *testing.T) {
	addr := redistest.Start(t)
	s := &site{t, channellayer.Core, redistest.NewClient(t, addr)}
	o := options(channellayer.Core)
	o.RenewInterval = 20 * time.Millisecond
	l := channellayer.New(one(redistest.NewClient(t, addr)), o)
	var sink pubsubtest.Recorder
	start(t, l, &sink)
	ada, other := group("acme", "report_7"), group("acme", "report_8")
	join(t, l, ada, other)
	if err := s.client.Del(t.Context(), "asgi:group:report_7").Err(); err != nil {
		t.Fatal(err)
	}
	sink.WaitFor(t, pubsubtest.Gap(ada))
	s.send(message{"report_7", note("acme", "again")}, message{"report_8", note("acme", "again")})
	sink.WaitFor(t, item(ada, "again"))
	sink.WaitFor(t, item(other, "again"))
	if got := sink.Of(other); len(got) != 1 {
		t.Errorf("got %v for the group that was not touched, want one event", got)
	}
}

// TestLateMessageOfALeftGroup: a message to an earlier membership does not reach a later one.
func TestLateMessageOfALeftGroup(t *testing.T) {
	addr := redistest.Start(t)
	s := &site{t, channellayer.Core, redistest.NewClient(t, addr)}
	l := channellayer.New(one(redistest.NewClient(t, addr)), options(channellayer.Core))
	var sink pubsubtest.Recorder
	start(t, l, &sink)
	ada := group("acme", "report_7")
	join(t, l, ada)
	before, err := s.client.ZRange(t.Context(), "asgi:group:report_7", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	l.Unsubscribe(ada)
	testkit.Eventually(t, "the node leaves", func() bool { return s.members("report_7") == 0 })
	join(t, l, ada)
	if err := s.client.ZAdd(t.Context(), "asgi:group:old", redisMember(before[0])).Err(); err != nil {
		t.Fatal(err)
	}
	s.send(message{"old", note("acme", "old")}, message{"report_7", note("acme", "new")})
	sink.WaitFor(t, item(ada, "new"))
	if got := sink.Items(); len(got) != 1 {
		t.Errorf("got %v, want the new event only", got)
	}
}

func TestEventsWithoutOrganizationAreHintedAtOnce(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	reg := prometheus.NewRegistry()
	o := options(channellayer.PubSub)
	o.Log, o.Registerer = zap.New(core), reg
	var sink pubsubtest.Recorder
	i := channellayer.NewIntake(o, &sink)
	i.Subscribe(group("acme", "a"))
	for range 3 {
		i.PubSub("a", pack("type", "one"), time.Now())
		i.PubSub("a", pack("type", "two", "organization_id", "not an id"), time.Now())
		i.PubSub("b", pack("type", "one"), time.Now())
	}
	if got := logs.FilterMessage("event without organization dropped").Len(); got != 3 {
		t.Errorf("got %d log lines, want one for each group and type", got)
	}
	if got := dropped(t, reg, "no_organization"); got != 9 {
		t.Errorf("counted %v, want 9", got)
	}
	if got := sink.Items(); len(got) > 0 {
		t.Errorf("delivered %v", got)
	}
}

func TestUnreadableMessagesSayWhatToDo(t *testing.T) {
	for name, test := range map[string]struct{ payload, reason, hint string }{
		"JSON":      {`{"type": "a"}`, "malformed", "--channel-layer-format json"},
		"encrypted": {"gAAAAABpVbkAlpwga6DMj4==", "malformed", "--channel-layer-keys-file"},
		"bytes":     {"\x81\xa1a\xc4\x01x", "not_json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.WarnLevel)
			reg := prometheus.NewRegistry()
			o := options(channellayer.PubSub)
			o.Log, o.Registerer = zap.New(core), reg
			i := channellayer.NewIntake(o, new(pubsubtest.Recorder))
			i.PubSub("a", []byte(test.payload), time.Now())
			i.PubSub("a", []byte(test.payload), time.Now())
			lines := logs.FilterMessage("channel layer message dropped").All()
			if len(lines) != 1 {
				t.Fatalf("got %d log lines, want 1", len(lines))
			}
			fields := lines[0].ContextMap()
			hint, ok := fields["hint"].(string)
			if fields["reason"] != test.reason || !ok || !strings.Contains(hint, test.hint) {
				t.Errorf("got %v, want reason %s and a hint with %q", fields, test.reason, test.hint)
			}
			if got := dropped(t, reg, test.reason); got != 2 {
				t.Errorf("counted %v, want 2", got)
			}
		})
	}
}

// dropped returns the counter of a reason.
func dropped(t *testing.T, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "orgcast_channel_layer_dropped_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no counter for %s", reason)
	return 0
}

// TestNoisyOrganizationLosesItsOwnEvents: one that exceeds its share gets a gap, and another one in
// the same group of Channels loses nothing.
func TestNoisyOrganizationLosesItsOwnEvents(t *testing.T) {
	o := options(channellayer.PubSub)
	o.EventsPerSecond, o.BytesPerSecond = 40, 1<<20
	var sink pubsubtest.Recorder
	i := channellayer.NewIntake(o, &sink)
	noisy, quiet := group("noisy", "a"), group("quiet", "a")
	i.Subscribe(noisy)
	i.Subscribe(quiet)
	now := time.Now().Add(time.Second)
	for n := range 50 {
		i.PubSub("a", pack(note("noisy", fmt.Sprint(n))...), now)
	}
	i.PubSub("a", pack(note("quiet", "one")...), now)
	if got := len(sink.Of(noisy)); got != 10 {
		t.Errorf("delivered %d events of the noisy organization, want a quarter of a second's", got)
	}
	i.Settle(now)
	if slices.Contains(sink.Items(), pubsubtest.Gap(noisy)) {
		t.Error("a gap before the organization has saved anything")
	}
	now = now.Add(time.Second)
	i.PubSub("a", pack(note("noisy", "later")...), now)
	if got, want := sink.Of(noisy)[10:], []pubsubtest.Item{pubsubtest.Gap(noisy), item(noisy, "later")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for n := range 50 {
		i.PubSub("a", pack(note("noisy", fmt.Sprint(n))...), now)
	}
	i.Settle(now.Add(time.Second))
	if items := sink.Of(noisy); items[len(items)-1] != pubsubtest.Gap(noisy) {
		t.Error("no gap after a flood that nothing follows")
	}
	if got, want := sink.Of(quiet), []pubsubtest.Item{item(quiet, "one")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestChangedKeys: a reload replaces the keys while events flow.
func TestChangedKeys(t *testing.T) {
	addr := redistest.Start(t)
	s := &site{t, channellayer.PubSub, redistest.NewClient(t, addr)}
	o := options(channellayer.PubSub)
	keys, err := wire.NewKeys([]byte("another key"))
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	plain := o.Decoder
	o.Decoder, o.Registerer = &wire.Decoder{Format: wire.MessagePack, Keys: keys}, reg
	l := channellayer.New(one(redistest.NewClient(t, addr)), o)
	var sink pubsubtest.Recorder
	start(t, l, &sink)
	ada := group("acme", "report_7")
	join(t, l, ada)
	s.send(message{"report_7", note("acme", "before")})
	testkit.Eventually(t, "the message is dropped", func() bool { return dropped(t, reg, "invalid_token") == 1 })
	l.Change(plain, channellayer.Limits{})
	s.send(message{"report_7", note("acme", "after")})
	sink.WaitFor(t, item(ada, "after"))
	if got := sink.Items(); len(got) != 1 {
		t.Errorf("got %v, want what came after the change", got)
	}
}
