package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// recorder is what these tests need of a bus.
type recorder interface {
	bus
	gateway.History
	Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error)
}

// recordNotes records texts for a group and returns their ids.
func recordNotes(tb testing.TB, r recorder, org, group string, texts ...string) (ids []string) {
	tb.Helper()
	g := mustGroup(tb, org, group)
	for _, text := range texts {
		p, err := r.Record(context.Background(), g, fmt.Appendf(nil, `{"type":"note","organization_id":%q,"text":%q}`, org, text), event.Recording{})
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, p.String())
	}
	return ids
}

// resumeText is the message of a page.
func resumeText(groups, tokens map[string]string) string {
	type wanted struct {
		After string `json:"after"`
		Token string `json:"token,omitempty"`
	}
	all := make(map[string]wanted)
	for name, after := range groups {
		all[name] = wanted{after, tokens[name]}
	}
	text, _ := json.Marshal(map[string]any{"type": "subscribe", "groups": all})
	return string(text)
}

// frames reads n frames: of an event its text, of others type, code, group and positions.
func frames(tb testing.TB, c *testkit.Client, n int) (list []string) {
	tb.Helper()
	for range n {
		text, err := c.Next()
		if err != nil {
			tb.Fatalf("after %q: %v", list, err)
		}
		var f struct{ Type, Text, Group, Code, ID, After, Before string }
		if err := json.Unmarshal(testkit.Flat(text), &f); err != nil {
			tb.Fatal(err)
		}
		if f.Type == "note" {
			list = append(list, f.Text)
			continue
		}
		list = append(list, strings.TrimRight(strings.Join([]string{f.Type, f.Code, f.Group, f.ID, f.After, f.Before}, " "), " "))
	}
	return list
}

// resumed connects with the subprotocol and sends a message.
func (n *node) resumed(message string) *testkit.Client {
	n.tb.Helper()
	if n.over == streams {
		c := testkit.Connect(n.tb, n.dial, posted("/ws/events", http.Header{"Origin": {origin}, "Cookie": {n.cookie("ada", "acme")}}, message))
		expectWelcome(n.tb, c)
		return c
	}
	c := n.subscribeAs(v1(), "ada", "acme")
	if err := c.SendText(message); err != nil {
		n.tb.Fatal(err)
	}
	return c
}

func TestResume(t *testing.T) { overEach(t, resumeOver) }

func resumeOver(t *testing.T, over via) {
	t.Helper()
	memory := pubsub.NewMemory()
	n := startNode(t, setup{over: over, options: gateway.Options{History: memory, QueueBytes: 64 << 10}, bus: memory})
	first := n.resumed(`{"type":"subscribe","group":"all"}`)
	beginning, ok := strings.CutPrefix(frames(t, first, 1)[0], "subscribed  all ")
	if !ok || !strings.HasPrefix(beginning, "0-0.") {
		t.Fatalf("the place of an empty history: got %q", beginning)
	}
	ids := recordNotes(t, memory, "acme", "all", "0", "1", "2", "3")
	foreign := recordNotes(t, memory, "globex", "all", "secret")
	token := consumer.SignGroup([]byte(signingKey), mustGroup(t, "acme", "invoice_7"), time.Now().Add(time.Hour))
	invoice := recordNotes(t, memory, "acme", "invoice_7", "due", "paid")
	large := strings.Repeat("x", 20<<10)
	bulk := recordNotes(t, memory, "acme", "room.bulk", "a", large, large, "b")
	last := ids[3]
	for name, test := range map[string]struct {
		groups, tokens map[string]string
		want           []string
	}{
		"what was missed":         {map[string]string{"all": ids[1]}, nil, []string{"2", "3", "subscribed  all " + last}},
		"nothing":                 {map[string]string{"all": last}, nil, []string{"subscribed  all " + last}},
		"from the beginning":      {map[string]string{"all": beginning}, nil, []string{"0", "1", "2", "3", "subscribed  all " + last}},
		"of another life":         {map[string]string{"all": "0-0.OTHER"}, nil, []string{"gap  all  0-0.OTHER " + ids[0], "0", "1", "2", "3", "subscribed  all " + last}},
		"of no history":           {map[string]string{"all": "5-5"}, nil, []string{"gap  all  5-5 " + ids[0], "0", "1", "2", "3", "subscribed  all " + last}},
		"of the future":           {map[string]string{"all": "9999999999999-0"}, nil, []string{"gap  all  9999999999999-0", "subscribed  all"}},
		"two groups":              {map[string]string{"room.1": "5-5", "all": ids[2]}, nil, []string{"3", "subscribed  all " + last, "gap  room.1  5-5", "subscribed  room.1"}},
		"signed":                  {map[string]string{"invoice_7": invoice[0]}, map[string]string{"invoice_7": token}, []string{"paid", "subscribed  invoice_7 " + invoice[1]}},
		"not signed":              {map[string]string{"invoice_7": invoice[0]}, nil, []string{"error unknown_group invoice_7"}},
		"signed for another":      {map[string]string{"user.bob": ids[0]}, map[string]string{"user.bob": token}, []string{"error unknown_group user.bob"}},
		"no name":                 {map[string]string{"ä": ids[0]}, nil, []string{"error unknown_group"}},
		"no place":                {map[string]string{"all": "now"}, nil, []string{"error bad_message all"}},
		"more than there is room": {map[string]string{"room.bulk": bulk[0]}, nil, []string{"gap  room.bulk  " + bulk[0] + " " + bulk[2], large, "b", "subscribed  room.bulk " + bulk[3]}},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.resumed(resumeText(test.groups, test.tokens))
			if diff := cmp.Diff(test.want, frames(t, c, len(test.want))); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
		})
	}
	// A position of another organization opens nothing of it.
	c := n.resumed(resumeText(map[string]string{"all": foreign[0]}, nil))
	for _, frame := range frames(t, c, 1) {
		if strings.Contains(frame, "secret") {
			t.Errorf("got %q of another organization", frame)
		}
	}
	// Live events follow.
	c = n.resumed(resumeText(map[string]string{"all": ids[2]}, nil))
	frames(t, c, 2)
	recordNotes(t, memory, "acme", "all", "live")
	if got := frames(t, c, 1); got[0] != "live" {
		t.Errorf("got %q, want the live event", got)
	}
}

// TestSubscribeToThousands: a frame has room for thousands of names. As many as a connection may join
// are answered one by one, the rest together, and the connection stays.
func TestSubscribeToThousands(t *testing.T) { overEach(t, subscribeToThousandsOver) }

func subscribeToThousandsOver(t *testing.T, over via) {
	t.Helper()
	memory := pubsub.NewMemory()
	n := startNode(t, setup{over: over, options: gateway.Options{History: memory}, bus: memory})
	groups := make(map[string]string)
	for i := range 2000 {
		groups[fmt.Sprintf("secret%04d", i)] = "5-5"
	}
	c := n.resumed(resumeText(groups, nil))
	if over == webSockets {
		_ = c.SendText(`{"type":"ping"}`)
	}
	text, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	var rest struct {
		Type, Code string
		Groups     []string
	}
	if err := json.Unmarshal([]byte(text), &rest); err != nil || rest.Type != "error" || rest.Code != "too_many_groups" || len(rest.Groups) != 2000-maxGroups || rest.Groups[0] != "secret0100" {
		t.Errorf("refused together: got %d groups in %.100s, want %d", len(rest.Groups), text, 2000-maxGroups)
	}
	want := make([]string, 0, maxGroups+1)
	for i := range maxGroups {
		want = append(want, fmt.Sprintf("error unknown_group secret%04d", i))
	}
	if over == webSockets {
		want = append(want, "pong")
	}
	if diff := cmp.Diff(want, frames(t, c, len(want))); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// TestSubscribeToManyAtOnce: a page that asks for one group more than it may have gets all the others.
func TestSubscribeToManyAtOnce(t *testing.T) {
	n := startNode(t, setup{options: gateway.Options{FrameBurst: 5, FramesPerSecond: 1e-9, GroupsPerConnection: maxGroups}})
	c := n.subscribeAs(v1(), "ada", "acme")
	say := func(kind string, first, count int) {
		t.Helper()
		groups := make(map[string]struct{})
		names := make([]string, 0, count)
		for i := first; i < first+count; i++ {
			names = append(names, fmt.Sprintf("room.%03d", i))
			groups[names[len(names)-1]] = struct{}{}
		}
		var text []byte
		if kind == "subscribe" {
			text, _ = json.Marshal(map[string]any{"type": kind, "groups": groups})
		} else {
			text, _ = json.Marshal(map[string]any{"type": kind, "groups": names})
		}
		if err := c.SendText(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(kind string, first, count int) {
		t.Helper()
		want := make([]string, 0, count)
		for i := first; i < first+count; i++ {
			want = append(want, fmt.Sprintf("%s  room.%03d", kind, i))
		}
		if diff := cmp.Diff(want, frames(t, c, count)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
	say("subscribe", 0, maxGroups+1)
	if text, err := c.Next(); err != nil || !strings.Contains(text, `"code":"too_many_groups"`) || !strings.Contains(text, `"groups":["room.100"]`) {
		t.Fatalf("got %s, %v, want that the last group alone is refused", text, err)
	}
	expect("subscribed", 0, maxGroups)
	// The allowance is used up, but for the frames' own burst.
	say("unsubscribe", 0, 6)
	expect("unsubscribed", 0, 6)
	say("unsubscribe", 6, 3)
	c.ExpectClose(t, 4429)
}

// TestSubscribeBadInput: every form has an answer, and the connection stays.
func TestSubscribeBadInput(t *testing.T) {
	c := startNode(t, setup{}).subscribeAs(v1(), "ada", "acme")
	for text, want := range map[string]string{
		`{"type":"subscribe"}`:                                                  "error unknown_group",
		`{"type":"unsubscribe"}`:                                                "error unknown_group",
		`{"type":"subscribe","groups":{}}`:                                      "error bad_message",
		`{"type":"subscribe","groups":["room.1"]}`:                              "error bad_message",
		`{"type":"subscribe","groups":{"room.1":7}}`:                            "error bad_message",
		`{"type":"subscribe","groups":{"room.1":{"after":7}}}`:                  "error bad_message",
		`{"type":"subscribe","groups":{"room.1":{"after":"now"}}}`:              "error bad_message room.1",
		`{"type":"subscribe","group":"room.1","groups":{"room.2":{}}}`:          "error bad_message",
		`{"type":"subscribe","groups":{"room/1":{}}}`:                           "error unknown_group",
		`{"type":"subscribe","groups":{"invoice_7":{"token":"1.ab"}}}`:          "error unknown_group invoice_7",
		`{"type":"subscribe","groups":{"room.1":null}}`:                         "subscribed  room.1",
		`{"type":"unsubscribe","groups":["room.1"]}`:                            "unsubscribed  room.1",
		`{"type":"unsubscribe","groups":[]}`:                                    "error bad_message",
		`{"type":"unsubscribe","groups":{"room.1":{}}}`:                         "error bad_message",
		`{"type":"unsubscribe","groups":["room/1"]}`:                            "error unknown_group",
		`{"type":"unsubscribe","group":"room.1","groups":["room.2"]}`:           "error bad_message",
		`{"type":"resume","groups":{"room.1":"5-5"}}`:                           "error unknown_type",
		`{"type":"subscribe","groups":{"room.1":{"more":1}},"further":"field"}`: "subscribed  room.1",
	} {
		if err := c.SendText(text); err != nil {
			t.Fatal(err)
		}
		if got := frames(t, c, 1); got[0] != want {
			t.Errorf("%s: got %q, want %q", text, got[0], want)
		}
	}
}

// TestResumeNeedsTheProtocol: pages without it see what they always saw.
func TestResumeNeedsTheProtocol(t *testing.T) {
	memory := pubsub.NewMemory()
	n := startNode(t, setup{options: gateway.Options{History: memory}, bus: memory})
	plain := n.subscribe("ada", "acme", "all")
	without := startNode(t, setup{}).resumed(resumeText(map[string]string{"all": "5-5"}, nil)) // and without histories
	if err := plain.SendText(resumeText(map[string]string{"all": "5-5"}, nil)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*testkit.Client{"plain": plain, "without histories": without} {
		if got := frames(t, c, 1); got[0] != "error bad_message all" {
			t.Errorf("%s: got %q, want bad_message", name, got)
		}
	}
}

// TestPropertyResume: a page that loses its connection again and again, while events are recorded and
// the node loses Redis, sees each event once and in order.
func TestPropertyResume(t *testing.T) { overEach(t, propertyResumeOver) }

func propertyResumeOver(t *testing.T, over via) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	bus := pubsub.NewRedis(client, mustKeyspace(t), pubsub.Options{
		LinkTimeout: time.Minute, SubscribeTimeout: time.Minute, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
	})
	n := startNode(t, setup{over: over, options: gateway.Options{Membership: everybody{}, History: bus}, bus: bus})
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		rounds++
		group := "room." + strconv.Itoa(rounds)
		if rapid.Bool().Draw(rt, "begun") {
			recordNotes(t, bus, "acme", group, "early")
		}
		lives := rapid.SliceOfN(rapid.IntRange(0, 15), 1, 6).Draw(rt, "lives") // frames read in each
		cuts := rapid.Bool().Draw(rt, "cuts")
		count := rapid.IntRange(1, 60).Draw(rt, "count")
		c := n.resumed(`{"type":"subscribe","group":"` + group + `"}`)
		place := strings.TrimPrefix(frames(t, c, 1)[0], "subscribed  "+group+" ")
		var want []string
		for i := range count {
			want = append(want, strconv.Itoa(i))
		}
		var publishing sync.WaitGroup
		publishing.Go(func() { recordNotes(t, bus, "acme", group, want...) })
		defer publishing.Wait()
		var got []string
		read := func(enough func() bool) {
			for !enough() {
				text, err := c.Next()
				if err != nil {
					rt.Fatal(err)
				}
				var f struct{ Type, Text, ID string }
				if err := json.Unmarshal(testkit.Flat(text), &f); err != nil {
					rt.Fatal(err)
				}
				switch f.Type {
				case "note":
					got = append(got, f.Text)
					place = f.ID
				case "subscribed":
					place = f.ID
				default:
					rt.Fatalf("after %q: got %s", got, text)
				}
			}
		}
		for _, frames := range lives {
			before := len(got)
			read(func() bool { return len(got) >= before+frames || len(got) == count })
			_ = c.Close()
			if cuts {
				_ = client.ClientKillByFilter(context.Background(), "TYPE", "pubsub").Err()
			}
			c = n.resumed(resumeText(map[string]string{group: place}, nil))
		}
		read(func() bool { return len(got) == count })
		_ = c.Close()
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("events (-want +got):\n%s", diff)
		}
	})
}
