package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// stateFrame is the first frame of the tests' consumer: the positions that the history has.
type stateFrame struct {
	Type string   `json:"type"` // "state"
	IDs  []string `json:"ids"`
}

// starting returns a Connect that joins a group with its history and sends that as its first frame.
func starting(group string, n int) func(context.Context, consumer.Conn) error {
	return func(ctx context.Context, c consumer.Conn) error {
		return c.JoinWithHistory(ctx, group, n, func(history []*event.Event) error {
			return c.Send(stateOf(history))
		})
	}
}

func stateOf(history []*event.Event) stateFrame {
	frame := stateFrame{Type: "state", IDs: []string{}}
	for _, e := range history {
		frame.IDs = append(frame.IDs, e.Position().String())
	}
	return frame
}

// historyFunc is a History that a test scripts.
type historyFunc func(ctx context.Context, g event.Group, n int) ([]*event.Event, error)

func (f historyFunc) History(ctx context.Context, g event.Group, n int) ([]*event.Event, error) {
	return f(ctx, g, n)
}

// recordedEvent makes an event of acme's group all; without a position it is transient.
func recordedEvent(tb testing.TB, position, text string) *event.Event {
	tb.Helper()
	payload := fmt.Sprintf(`{"type":"note","organization_id":"acme","text":%q}`, text)
	if position != "" {
		payload = position + " " + payload
	}
	e, err := event.Decode(mustGroup(tb, "acme", "all"), payload, event.DefaultMaxSize, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// receive reads frames until one has the text last, and names each: the text of an event with its
// id if it has one, or its type.
func receive(tb testing.TB, c *testkit.Client, last string) (names []string) {
	tb.Helper()
	for {
		frame, err := c.Next()
		if err != nil {
			tb.Fatalf("after %q: %v", names, err)
		}
		var f struct{ Type, Text, ID, Group string }
		if err := json.Unmarshal(testkit.Flat(frame), &f); err != nil {
			tb.Fatal(err)
		}
		switch {
		case f.Type == "welcome":
		case f.Type != "note":
			names = append(names, f.Type)
		case f.ID != "":
			names = append(names, strings.Join([]string{f.Text, f.Group, f.ID}, " "))
		default:
			names = append(names, f.Text)
		}
		if f.Text == last {
			return names
		}
	}
}

// TestFirstState: what is published while a history is being read follows the first frame, without
// what the history had, also if that comes late.
func TestFirstState(t *testing.T) {
	for name, test := range map[string]struct {
		history      []string // positions
		during       []string // position and text
		after        []string
		plain, known []string // what clients get
	}{
		"quiet": {
			history: []string{"1-0", "2-0"}, after: []string{"3-0 c"},
			plain: []string{"state", "c"}, known: []string{"state", "c all 3-0"},
		},
		"empty": {during: []string{"1-0 a"}, after: []string{"2-0 b"}, plain: []string{"state", "a", "b"}, known: []string{"state", "a all 1-0", "b all 2-0"}},
		"some are in the history": {
			history: []string{"1-0", "2-0"}, during: []string{"1-0 a", "2-0 b", "3-0 c"}, after: []string{"4-0 d"},
			plain: []string{"state", "c", "d"}, known: []string{"state", "c all 3-0", "d all 4-0"},
		},
		"the history is ahead": {
			history: []string{"1-0", "2-0", "10-0"}, during: []string{"1-0 a"}, after: []string{"2-0 b", "10-0 c", "10-1 d", "11-0 e"},
			plain: []string{"state", "d", "e"}, known: []string{"state", "d all 10-1", "e all 11-0"},
		},
		"transient ones are in no history": {
			history: []string{"1-0"}, during: []string{" t", "1-0 a", " u"}, after: []string{" v", "1-0 a", "2-0 b"},
			plain: []string{"state", "t", "u", "v", "b"}, known: []string{"state", "t", "u", "v", "b all 2-0"},
		},
	} {
		for _, protocol := range []string{"plain", consumer.ProtocolV1} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				var n *node
				deliver := func(list []string) {
					for _, item := range list {
						position, text, _ := strings.Cut(item, " ")
						n.hub.Deliver(recordedEvent(t, position, text))
					}
				}
				source := historyFunc(func(_ context.Context, g event.Group, count int) (history []*event.Event, err error) {
					if g != mustGroup(t, "acme", "all") || count != 10 {
						t.Errorf("History: got %v, %d", g, count)
					}
					deliver(test.during)
					for _, p := range test.history {
						history = append(history, recordedEvent(t, p, "in the history"))
					}
					return history, nil
				})
				h := &hooks{connect: starting("all", 10)}
				n = startNode(t, setup{options: gateway.Options{History: source}, routes: []consumer.Route{h.route("/ws/start")}})
				header, want := http.Header{}, test.plain
				if protocol == consumer.ProtocolV1 {
					header, want = v1(), test.known
				}
				c := testkit.Connect(t, n.dial, n.handshake("/ws/start", "ada", "acme", header))
				deliver(test.after)
				last := test.after[len(test.after)-1]
				if diff := cmp.Diff(want, receive(t, c, last[strings.Index(last, " ")+1:])); diff != "" {
					t.Errorf("frames: want (-), got (+):\n%s", diff)
				}
			})
		}
	}
}

// TestFirstStateAnew: a consumer may ask for the state again; and twice at a time is an error.
func TestFirstStateAnew(t *testing.T) {
	var n *node
	var newest atomic.Int64
	newest.Store(1)
	source := historyFunc(func(context.Context, event.Group, int) ([]*event.Event, error) {
		p := strconv.FormatInt(newest.Load(), 10) + "-0"
		n.hub.Deliver(recordedEvent(t, p, p))
		return []*event.Event{recordedEvent(t, p, p)}, nil
	})
	h := &hooks{connect: starting("all", 10)}
	h.receive = func(ctx context.Context, c consumer.Conn, _ event.RawMessage) error {
		return c.JoinWithHistory(ctx, "all", 10, func(history []*event.Event) error {
			if err := c.JoinWithHistory(ctx, "all", 10, func([]*event.Event) error { return nil }); err == nil {
				t.Error("a second one within the first: got nil, want an error")
			}
			return c.Send(stateOf(history))
		})
	}
	n = startNode(t, setup{options: gateway.Options{History: source}, routes: []consumer.Route{h.route("/ws/start")}})
	c := n.connect("/ws/start", "ada", "acme")
	c.Expect(t, `{"type":"state","ids":["1-0"]}`)
	newest.Store(5)
	if err := c.SendText("again"); err != nil {
		t.Fatal(err)
	}
	c.Expect(t, `{"type":"state","ids":["5-0"]}`)
	e := recordedEvent(t, "6-0", "next")
	n.hub.Deliver(e)
	c.Expect(t, string(e.Payload()))
}

// TestFirstStateFails: without a history there is no connection, and nothing stays of it.
func TestFirstStateFails(t *testing.T) {
	boom := errors.New("boom")
	var n *node
	source := historyFunc(func(context.Context, event.Group, int) ([]*event.Event, error) {
		n.hub.Deliver(recordedEvent(t, "1-0", "held"))
		return nil, errDown
	})
	for path, test := range map[string]struct {
		connect func(context.Context, consumer.Conn) error
		status  int
	}{
		"/ws/down": {starting("all", 1), 503},
		"/ws/name": {starting("ü", 1), 404},
		"/ws/first": {func(ctx context.Context, c consumer.Conn) error {
			return c.JoinWithHistory(ctx, "all", 0, func([]*event.Event) error { return boom })
		}, 500},
		"/ws/panic": {func(ctx context.Context, c consumer.Conn) error {
			return c.JoinWithHistory(ctx, "all", 0, func([]*event.Event) error { panic(boom) })
		}, 500},
		"/ws/left": {func(ctx context.Context, c consumer.Conn) error {
			if err := c.JoinWithHistory(ctx, "all", 0, func([]*event.Event) error { c.Leave("all"); return nil }); err != nil {
				t.Errorf("left meanwhile: got %v, want nil", err)
			}
			return consumer.ErrForbidden
		}, 403},
		"/ws/end": {func(ctx context.Context, c consumer.Conn) error {
			return c.JoinWithHistory(ctx, "all", 0, func([]*event.Event) error { c.End(consumer.ErrNotFound); return nil })
		}, 404},
	} {
		t.Run(path, func(t *testing.T) {
			h := &hooks{connect: test.connect}
			options := gateway.Options{History: source}
			if path != "/ws/down" {
				options.History = nil // the feature is off, and all histories are empty
			}
			n = startNode(t, setup{options: options, routes: []consumer.Route{h.route(path)}})
			if _, answer := testkit.Try(t, n.dial, n.handshake(path, "ada", "acme", nil)); answer.Status != test.status {
				t.Errorf("got %d, want %d", answer.Status, test.status)
			}
			testkit.Eventually(t, "groups are left", func() bool { return n.hub.Groups() == 0 })
		})
	}
}

// TestFirstStateOverfull: what is held while a history is slow is bounded like the queue, and what
// gives way is what the route says.
func TestFirstStateOverfull(t *testing.T) {
	const events = 40
	size := frameSize(recordedEvent(t, "1-0", strings.Repeat("x", 100)), event.Plain)
	for name, test := range map[string]struct {
		policy  consumer.WhenFull
		history string // the newest
		want    []string
	}{
		"disconnect":                            {consumer.Disconnect, "", nil},
		"drop_oldest":                           {consumer.DropOldest, "", []string{"state", "gap", "…"}},
		"drop_oldest, what the history has":     {consumer.DropOldest, "35-0", []string{"state", "…"}},
		"drop_oldest, what the history has not": {consumer.DropOldest, "20-0", []string{"state", "gap", "…"}},
		"latest":                                {consumer.Latest, "", []string{"state", "…"}},
	} {
		t.Run(name, func(t *testing.T) {
			var n *node
			waited := make(chan struct{}, 1)
			source := historyFunc(func(context.Context, event.Group, int) (history []*event.Event, err error) {
				defer func() { waited <- struct{}{} }()
				for i := range events {
					n.hub.Deliver(recordedEvent(t, fmt.Sprintf("%d-0", i+1), fmt.Sprintf("%s%d", strings.Repeat("x", 100), i+1)))
					n.hub.Wait() // or they come as one burst
				}
				if test.history != "" {
					history = append(history, recordedEvent(t, test.history, "newest"))
				}
				return history, nil
			})
			h := &hooks{connect: starting("all", 10)}
			route := h.route("/ws/start")
			route.WhenFull = test.policy
			n = startNode(t, setup{options: gateway.Options{History: source, QueueBytes: 10 * size, CloseTimeout: 100 * time.Millisecond}, routes: []consumer.Route{route}})
			handshake := n.handshake("/ws/start", "ada", "acme", v1())
			if test.want == nil {
				if _, answer := testkit.Try(t, n.dial, handshake); answer.Status != http.StatusInternalServerError {
					t.Errorf("got status %d, want 500", answer.Status)
				}
				return
			}
			c := testkit.Connect(t, n.dial, handshake)
			<-waited // nothing may be delivered during the hub's Wait
			n.hub.Deliver(recordedEvent(t, "41-0", "end"))
			got := receive(t, c, "end")
			if diff := cmp.Diff(test.want[:len(test.want)-1], got[:len(test.want)-1]); diff != "" {
				t.Errorf("frames: want (-), got (+):\n%s", diff)
			}
			rest := got[len(test.want)-1:]
			if most := 10; len(rest) < 2 || len(rest) > most {
				t.Errorf("events: got %q, want 2 to %d", rest, most)
			}
			for i := range rest[:len(rest)-1] { // without a hole up to the newest
				if want := fmt.Sprintf("all %d-0", events-len(rest)+2+i); !strings.HasSuffix(rest[i], want) {
					t.Errorf("event %d: got %q, want %s", i, rest[i], want)
				}
			}
			n.stop()
			if got := n.metric("orgcast_queue_bytes"); got != 0 {
				t.Errorf("orgcast_queue_bytes: got %v, want 0", got)
			}
		})
	}
}

// TestFirstStateOfABusyGroup: a thousand events that come while the history is read follow it in order.
func TestFirstStateOfABusyGroup(t *testing.T) {
	const events = 1000
	var n *node
	source := historyFunc(func(context.Context, event.Group, int) ([]*event.Event, error) {
		for i := range events {
			n.hub.Deliver(recordedEvent(t, fmt.Sprintf("%d-0", i+1), strconv.Itoa(i+1)))
			n.hub.Wait() // or they come as one burst
		}
		return []*event.Event{recordedEvent(t, "300-0", "300")}, nil
	})
	for name, policy := range consumer.WhenFullNames() {
		t.Run(policy, func(t *testing.T) {
			h := &hooks{connect: starting("all", 10)}
			route := h.route("/ws/start")
			route.WhenFull = consumer.WhenFull(name)
			n = startNode(t, setup{options: gateway.Options{History: source}, routes: []consumer.Route{route}})
			c := testkit.Connect(t, n.dial, n.handshake("/ws/start", "ada", "acme", nil))
			n.hub.Deliver(recordedEvent(t, "1001-0", "end"))
			want := []string{"state"}
			for i := 301; i <= events; i++ {
				want = append(want, strconv.Itoa(i))
			}
			if diff := cmp.Diff(append(want, "end"), receive(t, c, "end")); diff != "" {
				t.Errorf("frames: want (-), got (+):\n%s", diff)
			}
		})
	}
}

// TestPropertyFirstState: with publishers at work on a real Redis, each connection that begins with
// a history sees every recorded event once and in order, from its first one on, and whatever was
// recorded after it was there.
func TestPropertyFirstState(t *testing.T) {
	h := &hooks{}
	h.connect = func(ctx context.Context, c consumer.Conn) error {
		n, err := strconv.Atoi(c.Query().Get("n"))
		if err != nil {
			return err
		}
		return starting(c.Query().Get("group"), n)(ctx, c)
	}
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	bus := pubsub.NewRedis(client, mustKeyspace(t), calm())
	n := startNode(t, setup{
		options: gateway.Options{Membership: everybody{}, History: bus}, bus: bus, routes: []consumer.Route{h.route("/ws/start")},
	})
	var rounds atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		group := "room." + strconv.FormatInt(rounds.Add(1), 10)
		g := mustGroup(t, "acme", group)
		publishers := rapid.IntRange(1, 4).Draw(rt, "publishers")
		each := rapid.IntRange(1, 60).Draw(rt, "each")
		batch := rapid.IntRange(1, 8).Draw(rt, "batch")
		windows := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 6).Draw(rt, "windows")
		before := rapid.IntRange(0, 10).Draw(rt, "before")

		var mu sync.Mutex
		var all []event.Position
		record := func(count int) (last event.Position) {
			out := make([]event.Publication, count)
			for i := range out {
				out[i] = event.Publication{Group: g, Payload: []byte(`{"type":"note","organization_id":"acme"}`), Record: new(event.Recording)}
			}
			for _, r := range bus.PublishAll(context.Background(), out) {
				if r.Err != nil {
					t.Error(r.Err)
				}
				mu.Lock()
				all = append(all, r.Position)
				mu.Unlock()
				last = r.Position
			}
			return last
		}
		record(before)
		type viewer struct {
			*testkit.Client

			probe event.Position // recorded when it was connected
		}
		viewers := make([]*viewer, len(windows))
		var wg sync.WaitGroup
		for range publishers {
			wg.Go(func() {
				for sent := 0; sent < each; sent += batch {
					record(min(batch, each-sent))
				}
			})
		}
		for i, window := range windows {
			wg.Go(func() {
				path := fmt.Sprintf("/ws/start?group=%s&n=%d", group, window)
				c, answer, err := testkit.Open(context.Background(), n.dial, n.handshake(path, "ada", "acme", v1()))
				if c == nil {
					t.Error(answer, err)
					return
				}
				viewers[i] = &viewer{c, record(1)}
			})
		}
		wg.Wait()
		if t.Failed() {
			rt.Fatal("see above")
		}
		last := record(1)
		slices.SortFunc(all, event.Position.Compare)
		for _, v := range viewers {
			var got []event.Position
			for !slices.Contains(got, last) {
				text, err := v.Next()
				if err != nil {
					rt.Fatalf("after %v: %v", got, err)
				}
				var ids struct {
					ID  string
					IDs []string
				}
				if err := json.Unmarshal(testkit.Flat(text), &ids); err != nil {
					rt.Fatal(err)
				}
				if ids.ID != "" {
					ids.IDs = append(ids.IDs, ids.ID)
				}
				for _, id := range ids.IDs {
					p, err := event.ParsePosition(id)
					if err != nil {
						rt.Fatal(err)
					}
					got = append(got, p)
				}
			}
			first := slices.Index(all, got[0])
			if diff := cmp.Diff(all[max(first, 0):], got, cmpopts.EquateComparable(event.Position{})); diff != "" {
				rt.Fatalf("from its first on: want (-), got (+):\n%s", diff)
			}
			if !slices.Contains(got, v.probe) {
				rt.Fatalf("from %v on, without %v, which was recorded when it was there", got[0], v.probe)
			}
			_ = v.Close()
		}
	})
}
