package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// page is what these tests read of a frame that answers a question about a history.
type page struct {
	Type, Code, Group string
	RequestID         string `json:"request_id"`
	Events            []struct {
		Event struct{ Text string }
		ID    string
	}
	More bool
}

// texts returns the texts of the page's events, and "…" in front if there are more.
func (p *page) texts() (list []string) {
	if p.More {
		list = append(list, "…")
	}
	for _, e := range p.Events {
		list = append(list, e.Event.Text)
	}
	return list
}

// askPage sends a question and reads the answer.
func askPage(tb testing.TB, c *testkit.Client, question string) (p page) {
	tb.Helper()
	if err := c.SendText(question); err != nil {
		tb.Fatal(err)
	}
	text, err := c.Next()
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return p
}

// TestHistoryPages: a page goes back in the history of a group that it has joined, and of no other.
func TestHistoryPages(t *testing.T) {
	memory := pubsub.NewMemory()
	n := startNode(t, setup{options: gateway.Options{History: memory}, bus: memory})
	c := n.resumed(`{"type":"subscribe","group":"all"}`)
	frames(t, c, 1)
	empty := askPage(t, c, `{"type":"history","group":"all","request_id":"q1"}`)
	if empty.Type != "history" || empty.Group != "all" || empty.RequestID != "q1" || empty.More || len(empty.Events) != 0 {
		t.Errorf("of an empty history: got %+v", empty)
	}
	recordNotes(t, memory, "globex", "all", "secret")
	ids := recordNotes(t, memory, "acme", "all", "0", "1", "2", "3", "4")
	recordNotes(t, memory, "acme", "room.1", "elsewhere")
	frames(t, c, len(ids)) // they arrive, too
	for question, want := range map[string][]string{
		`"group":"all"`:           {"0", "1", "2", "3", "4"},
		`"group":"all","limit":5`: {"0", "1", "2", "3", "4"},
		`"group":"all","limit":2`: {"…", "3", "4"},
		fmt.Sprintf(`"group":"all","limit":2,"before":%q`, ids[3]):                    {"…", "1", "2"},
		fmt.Sprintf(`"group":"all","limit":2,"before":%q`, ids[2]):                    {"0", "1"},
		fmt.Sprintf(`"group":"all","before":%q`, ids[0]):                              nil,
		`"group":"all","before":"1-0"`:                                                nil,
		`"group":"all","limit":1,"before":"99999999999999-0"`:                         {"…", "4"},
		`"group":"all","limit":1000,"before":null,"another":"field is not looked at"`: {"0", "1", "2", "3", "4"},
	} {
		if got := askPage(t, c, `{"type":"history",`+question+`}`); got.Type != "history" || cmp.Diff(want, got.texts()) != "" {
			t.Errorf("%s: got %+v, want %q", question, got, want)
		}
	}
	for question, want := range map[string]string{
		`"group":"room.1","request_id":"q2"`: "unknown_group room.1 q2", // it may be joined, and is not
		`"group":"user.bob"`:                 "unknown_group user.bob ",
		`"group":"ä"`:                        "unknown_group  ",
		`"before":"5-5"`:                     "unknown_group  ",
		`"group":"all","before":"now"`:       "bad_message all ",
		`"group":"all","before":"0-0"`:       "bad_message all ",
		`"group":"all","before":"0-0.EPOCH"`: "bad_message all ",
		`"group":"all","before":""`:          "bad_message all ",
		`"group":"all","before":5`:           "bad_message  ",
		`"group":"all","limit":0`:            "bad_message all ",
		`"group":"all","limit":-1`:           "bad_message all ",
		`"group":"all","limit":1001`:         "bad_message all ",
		`"group":"all","limit":1e99`:         "bad_message  ",
		`"group":["all"]`:                    "bad_message  ",
		`"group":"all","request_id":"ä"`:     "bad_message  ",
	} {
		got := askPage(t, c, `{"type":"history",`+question+`}`)
		if text := got.Code + " " + got.Group + " " + got.RequestID; got.Type != "error" || text != want {
			t.Errorf("%s: got %+v, want %q", question, got, want)
		}
	}
	// Not after leaving.
	if err := c.SendText(`{"type":"unsubscribe","group":"all"}`); err != nil {
		t.Fatal(err)
	}
	frames(t, c, 1)
	if got := askPage(t, c, `{"type":"history","group":"all"}`); got.Code != "unknown_group" {
		t.Errorf("after leaving: got %+v", got)
	}
	n.expectConnections(1)
}

// TestHistoryPagesNeedTheProtocol: a page of the original cannot tell such a frame from an event.
func TestHistoryPagesNeedTheProtocol(t *testing.T) {
	memory := pubsub.NewMemory()
	n := startNode(t, setup{options: gateway.Options{History: memory}, bus: memory})
	plain := n.subscribe("ada", "acme", "all")
	if got := askPage(t, plain, `{"type":"history","group":"all"}`); got.Code != "unknown_type" {
		t.Errorf("without the protocol: got %+v", got)
	}
	without := startNode(t, setup{}).resumed(`{"type":"subscribe","group":"all"}`)
	frames(t, without, 1)
	if got := askPage(t, without, `{"type":"history","group":"all"}`); got.Code != "unknown_type" {
		t.Errorf("without histories: got %+v", got)
	}
}

// TestHistoryPagesAreBoundedInBytes: large events come in small pages, each of one event at least.
func TestHistoryPagesAreBoundedInBytes(t *testing.T) {
	memory := pubsub.NewMemory()
	n := startNode(t, setup{options: gateway.Options{History: memory}, bus: memory})
	large := strings.Repeat("x", 100<<10)
	for range 20 {
		recordNotes(t, memory, "acme", "all", large)
	}
	c := n.resumed(`{"type":"subscribe","group":"all"}`)
	frames(t, c, 1)
	seen, question := 0, `{"type":"history","group":"all","limit":1000}`
	for {
		got := askPage(t, c, question)
		if len(got.Events) < 1 || len(got.Events) > 2 {
			t.Fatalf("got %d events of 100 KiB in a page", len(got.Events))
		}
		if seen += len(got.Events); !got.More {
			break
		}
		question = fmt.Sprintf(`{"type":"history","group":"all","limit":1000,"before":%q}`, got.Events[0].ID)
	}
	if seen != 20 {
		t.Errorf("got %d events in all, want 20", seen)
	}
}

// TestPropertyHistoryPages: whatever is recorded in two organizations with equal names, going back
// page by page shows each event of one's own once, in order, and nothing else.
func TestPropertyHistoryPages(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	inRedis := pubsub.NewRedis(client, mustKeyspace(t), pubsub.Options{LinkTimeout: time.Minute, SubscribeTimeout: time.Minute})
	memory := pubsub.NewMemory()
	for name, bus := range map[string]recorder{"redis": inRedis, "memory": memory} {
		t.Run(name, func(t *testing.T) {
			options := gateway.Options{Membership: everybody{}, History: bus, FramesPerSecond: 1e6, FrameBurst: 1e6}
			n := startNode(t, setup{options: options, bus: bus})
			rounds := 0
			rapid.Check(t, func(rt *rapid.T) {
				rounds++
				group := "room." + strconv.Itoa(rounds)
				var want []string
				for i := range rapid.IntRange(0, 40).Draw(rt, "events") {
					org, text := "globex", "secret"
					if rapid.Bool().Draw(rt, "own") {
						org, text = "acme", strconv.Itoa(i)
						text += strings.Repeat("x", rapid.SampledFrom([]int{0, 0, 50 << 10}).Draw(rt, "size"))
						want = append(want, text)
					}
					recordNotes(t, bus, org, group, text)
				}
				c := n.resumed(`{"type":"subscribe","group":"` + group + `"}`)
				defer func() { _ = c.Close() }()
				frames(t, c, 1)
				var got []string
				before := ""
				for {
					limit := rapid.IntRange(1, 20).Draw(rt, "limit")
					p := askPage(t, c, fmt.Sprintf(`{"type":"history","group":%q,"limit":%d%s}`, group, limit, before))
					if len(p.Events) > limit || p.More && len(p.Events) == 0 {
						rt.Fatalf("got %d events and more=%v, want at most %d", len(p.Events), p.More, limit)
					}
					var texts []string
					for _, e := range p.Events {
						texts = append(texts, e.Event.Text)
					}
					if got = append(texts, got...); !p.More {
						break
					}
					before = fmt.Sprintf(`,"before":%q`, p.Events[0].ID)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					rt.Fatalf("events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// confused is a History that reads from the wrong organization.
type confused struct {
	*pubsub.Memory
	foreign event.Group
}

func (c confused) Before(ctx context.Context, _ event.Group, before event.Position, limit, bytes int) ([]*event.Event, bool, error) {
	return c.Memory.Before(ctx, c.foreign, before, limit, bytes)
}

// TestIsolationOfHistoryPages: an event of another organization that gets as far as a page is
// stopped, and the connection ends.
func TestIsolationOfHistoryPages(t *testing.T) {
	memory := pubsub.NewMemory()
	recordNotes(t, memory, "globex", "all", "secret")
	n := startNode(t, setup{options: gateway.Options{History: confused{memory, mustGroup(t, "globex", "all")}}, bus: memory})
	c := n.resumed(`{"type":"subscribe","group":"all"}`)
	frames(t, c, 1)
	if err := c.SendText(`{"type":"history","group":"all"}`); err != nil {
		t.Fatal(err)
	}
	if texts, _ := c.ExpectClose(t, 1011); strings.Contains(strings.Join(texts, ""), "secret") {
		t.Errorf("got %q", texts)
	}
	if got := n.gateway.Violations(); got != 1 {
		t.Errorf("violations: got %d, want 1", got)
	}
}
