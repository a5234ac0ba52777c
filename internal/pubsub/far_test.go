package pubsub_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// far is a hook that answers like a distant server with histories of numbered events.
type far struct {
	roundTrip time.Duration
	count     int    // events of each history
	payload   string // of each event
}

func (*far) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *far) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return f.answer(ctx, []redis.Cmder{cmd}) }
}

func (f *far) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return f.answer
}

// answer answers the commands of one round trip, or fails them if the time has run out.
func (f *far) answer(ctx context.Context, cmds []redis.Cmder) error {
	select {
	case <-time.After(f.roundTrip):
	case <-ctx.Done():
		for _, cmd := range cmds {
			cmd.SetErr(ctx.Err())
		}
		return ctx.Err()
	}
	for _, cmd := range cmds {
		switch cmd := cmd.(type) {
		case *redis.XMessageSliceCmd:
			cmd.SetVal(f.entries(cmd.Args()))
		case *redis.XInfoStreamCmd:
			cmd.SetVal(&redis.XInfoStream{Length: int64(f.count), EntriesAdded: int64(f.count)})
		}
	}
	return nil
}

// entries answers XREVRANGE key before back COUNT n. The IDs are 1-0, 2-0 and so on.
func (f *far) entries(args []any) (entries []redis.XMessage) {
	number := func(v any, fallback int) int {
		text, _ := v.(string)
		text, exclusive := strings.CutPrefix(text, "(")
		n, err := strconv.Atoi(strings.TrimSuffix(text, "-0"))
		if err != nil {
			return fallback
		}
		if exclusive {
			n--
		}
		return n
	}
	limit, _ := args[len(args)-1].(int64)
	for n := number(args[2], f.count); n >= max(number(args[3], 1), 1) && len(entries) < int(limit); n-- {
		entries = append(entries, redis.XMessage{ID: strconv.Itoa(n) + "-0", Values: map[string]any{"event": f.payload}})
	}
	return entries
}

// newFar returns a bus that uses such a server.
func newFar(t *testing.T, f *far, o pubsub.Options) *pubsub.Redis {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "192.0.2.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(f)
	return pubsub.NewRedis(client, newKeyspace(t), o)
}

// TestFarHistory: a history of a thousand events takes some 65 round trips. Each may take one
// HistoryTimeout, so that Redis may be far away, and all together may take a few.
func TestFarHistory(t *testing.T) {
	for name, test := range map[string]struct {
		roundTrip time.Duration
		want      error
	}{
		"near":                            {time.Millisecond, nil},
		"40 ms away":                      {40 * time.Millisecond, nil},
		"100 ms away":                     {100 * time.Millisecond, nil},
		"too far for all of it":           {500 * time.Millisecond, context.DeadlineExceeded},
		"too far for a single round trip": {3 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const events = 1000
				g := testkit.Group(t, "acme", "room")
				f := &far{roundTrip: test.roundTrip, count: events, payload: pubsubtest.Payload(g, "x")}
				bus := newFar(t, f, pubsub.Options{HistoryTimeout: 2 * time.Second})
				for what, read := range map[string]func() ([]*event.Event, error){
					"History": func() ([]*event.Event, error) { return bus.History(t.Context(), g, events) },
					"Since": func() ([]*event.Event, error) {
						got, complete, err := bus.Since(t.Context(), g, event.NewPosition(1, 0), events)
						if err == nil && !complete {
							t.Error("Since: not complete")
						}
						return got, err
					},
				} {
					start := time.Now()
					got, err := read()
					if !errors.Is(err, test.want) {
						t.Errorf("%s: got %v, want %v", what, err, test.want)
					}
					if err == nil && len(got) < events-1 {
						t.Errorf("%s: got %d events, want %d", what, len(got), events)
					}
					if took := time.Since(start); took > 14*time.Second {
						t.Errorf("%s: took %v", what, took)
					}
				}
			})
		})
	}
}

// largest is a hook that records the most entries of histories in one round trip.
type largest struct {
	mu      sync.Mutex
	entries int
}

func (*largest) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *largest) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		l.note([]redis.Cmder{cmd})
		return err
	}
}

func (l *largest) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		l.note(cmds)
		return err
	}
}

func (l *largest) note(cmds []redis.Cmder) {
	entries := 0
	for _, cmd := range cmds {
		switch cmd := cmd.(type) {
		case *redis.XMessageSliceCmd:
			entries += len(cmd.Val())
		case *redis.XInfoStreamCmd: // the first and the last
			entries += min(int(cmd.Val().Length), 2)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = max(l.entries, entries)
}

// TestOneAnswerIsBoundedInBytes: many histories are read in one round trip, both at subscription
// and when groups catch up. Even if every entry were as large as an event can be, neither Redis nor
// the node would hold more than 64 MiB.
func TestOneAnswerIsBoundedInBytes(t *testing.T) {
	const groups, missed, eventSize, most = 150, 40, 1 << 20, 64
	client, keys := redistest.NewClient(t, redistest.Start(t)), newKeyspace(t)
	hook := new(largest)
	client.AddHook(hook)
	bus := pubsub.NewRedis(client, keys, pubsub.Options{
		MaxEventSize: eventSize, EventsPerSecond: -1, BytesPerSecond: -1,
		SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, PublishTimeout: calm, HistoryTimeout: calm, MinBackoff: time.Second, MaxBackoff: time.Second, // long enough to record, and no fault if it is not
	})
	var sink pubsubtest.Recorder
	want := make(map[event.Group][]pubsubtest.Item)
	var subscribing sync.WaitGroup
	for i := range groups {
		g := testkit.Group(t, "acme", strconv.Itoa(i))
		pubsubtest.Record(t, bus, g, event.Recording{}, "early")
		want[g] = nil
		subscribing.Go(func() { _ = bus.Subscribe(t.Context(), g) })
	}
	pubsubtest.Eventually(t, "all are wanted", func() bool { return bus.WantedGroups() == groups })
	pubsubtest.Start(t, bus, &sink)
	subscribing.Wait()
	if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	pubsubtest.Eventually(t, "no link", func() bool { return errors.Is(bus.Healthy(), pubsub.ErrNoLink) })
	i := 0
	for g := range want { // some groups miss nothing, some little, some much
		want[g] = pubsubtest.Record(t, bus, g, event.Recording{}, texts(0, i%3*missed/2)...)
		i++
	}
	for g, items := range want {
		if len(items) > 0 {
			sink.WaitFor(t, items[len(items)-1])
		}
		if diff := cmp.Diff(items, sink.Of(g), equalItems, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("items of %v differ (-want +got):\n%s", g, diff)
		}
	}
	hook.mu.Lock()
	defer hook.mu.Unlock()
	if hook.entries > most || hook.entries < most/2 {
		t.Errorf("entries in one answer: got %d, want up to %d", hook.entries, most)
	}
}
