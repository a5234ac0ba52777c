package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
)

// page is the head of a request of an allowed page of another origin, with a session.
func (n *node) page(user, org string, more ...string) http.Header {
	n.tb.Helper()
	h := http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = nil
		if more[i+1] != "" {
			h.Set(more[i], more[i+1])
		}
	}
	return h
}

// expectRetry sees that a GET is answered with a stream that tells when to come back and why, and
// ends.
func (n *node) expectRetry(tb testing.TB, header http.Header, code int) {
	tb.Helper()
	c, answer := testkit.Try(tb, n.dial, gotten("/ws/events?group=all", header))
	if c == nil {
		tb.Fatalf("got %d %s, want 200 and a stream", answer.Status, answer.Body)
	}
	if got := answer.Header.Get("Access-Control-Allow-Origin"); got != header.Get("Origin") {
		tb.Errorf("Access-Control-Allow-Origin: got %q, without which EventSource gives up", got)
	}
	frames, reason := c.ExpectClose(tb, code)
	var told struct {
		RetryAfterMS int64 `json:"retry_after_ms"`
	}
	if err := json.Unmarshal([]byte(reason), &told); err != nil || told.RetryAfterMS < 1 {
		tb.Errorf("reason: got %q, %v", reason, err)
	}
	if got := c.Retry().Milliseconds(); got != told.RetryAfterMS || len(frames) > 0 {
		tb.Errorf("retry: got %d ms and the frames %q, want %d ms and none", got, frames, told.RetryAfterMS)
	}
}

// TestStreamRefusalsThatPass: EventSource gives up at any other status than 200, so a refusal that
// will pass is told in a stream. A POST, and a refusal that stays, keep their status.
func TestStreamRefusalsThatPass(t *testing.T) {
	t.Run("draining", func(t *testing.T) {
		n := startNode(t, setup{over: streams})
		n.gateway.StopAdmission()
		n.expectRetry(t, n.page("ada", "acme"), 1012)
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "draining", true)
	})
	t.Run("node full", func(t *testing.T) {
		n := startNode(t, setup{over: streams, options: gateway.Options{MaxConnections: 1}})
		n.connect("/ws/events", "ada", "acme")
		n.expectRetry(t, n.page("ada", "acme"), 1013)
		n.expectMetric(1, "orgcast_connections_refused_total", "reason=overloaded")
	})
	t.Run("too many", func(t *testing.T) {
		n := startNode(t, setup{over: streams, options: gateway.Options{MaxPerUser: 1}})
		n.connect("/ws/events", "ada", "acme")
		n.expectRetry(t, n.page("ada", "acme"), 4429)
	})
	t.Run("too fast", func(t *testing.T) {
		n := startNode(t, setup{over: streams, options: gateway.Options{HandshakesPerSecond: 0.001}})
		n.connect("/ws/events", "ada", "acme")
		n.expectRetry(t, n.page("ada", "acme"), 1013)
	})
	t.Run("session store down", func(t *testing.T) {
		n := startNode(t, setup{over: streams, options: gateway.Options{Sessions: unavailable{}}})
		n.expectRetry(t, n.page("ada", "acme"), 1013)
	})
	t.Run("those that stay", func(t *testing.T) {
		h := &hooks{connect: func(context.Context, consumer.Conn) error { return consumer.ErrNotFound }}
		n := startNode(t, setup{over: streams, routes: []consumer.Route{h.route("/ws/no"), explaining("/ws/explain")}})
		for _, test := range []struct {
			path   string
			header http.Header
			status int
			code   string
		}{
			{"/ws/events", n.page("ada", "acme", "Origin", "https://evil.test"), 403, "origin"},
			{"/ws/events", n.page("ada", "acme", "Origin", ""), 403, "origin"},
			{"/ws/events", n.page("ada", "acme", "Cookie", ""), 401, "unauthenticated"},
			{"/ws/explain", n.page("ada", "acme", "Cookie", ""), 401, "unauthenticated"}, // a program sees the status
			{"/ws/events", n.page("grace", "acme"), 403, "forbidden"},
			{"/ws/nothing", n.page("ada", "acme"), 404, "unknown_path"},
			{"/ws/no", n.page("ada", "acme"), 404, "not_found"},
			{"/ws/events?" + strings.Repeat("q", 2049), n.page("ada", "acme"), 400, "query_too_long"},
		} {
			n.expectRefused(t, gotten(test.path, test.header), test.status, test.code, false)
			post := posted(test.path, test.header, `{"type":"subscribe","group":"all"}`)
			n.expectRefused(t, post, test.status, test.code, false)
		}
	})
}

// TestStreamOrigins: a listed page of another origin may read streams with its cookie, and the
// answers to refusals. No other may, and a request without an origin has to come from a page of the
// gateway's own.
func TestStreamOrigins(t *testing.T) {
	n := startNode(t, setup{over: streams})
	cors := func(answer testkit.Answer) []string {
		var got []string
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Vary"} {
			got = append(got, answer.Header.Get(name))
		}
		return got
	}
	allowed := []string{origin, "true", "Origin"}
	for name, test := range map[string]struct {
		h      testkit.Handshake
		status int
		cors   []string
	}{
		"listed":                         {gotten("/ws/events", n.page("ada", "acme")), 200, allowed},
		"listed, POST":                   {posted("/ws/events", n.page("ada", "acme"), `{"type":"subscribe"}`), 200, allowed},
		"listed, not logged in":          {gotten("/ws/events", n.page("ada", "acme", "Cookie", "")), 401, allowed},
		"listed, not allowed":            {gotten("/ws/events", n.page("grace", "acme")), 403, allowed},
		"foreign":                        {gotten("/ws/events", n.page("ada", "acme", "Origin", "https://evil.test")), 403, []string{"", "", ""}},
		"foreign, says it is not":        {gotten("/ws/events", n.page("ada", "acme", "Origin", "https://evil.test", "Sec-Fetch-Site", "same-origin")), 403, []string{"", "", ""}},
		"null":                           {gotten("/ws/events", n.page("ada", "acme", "Origin", "null", "Sec-Fetch-Site", "same-origin")), 403, []string{"", "", ""}},
		"none":                           {gotten("/ws/events", n.page("ada", "acme", "Origin", "")), 403, []string{"", "", ""}},
		"none, of the same site":         {gotten("/ws/events", n.page("ada", "acme", "Origin", "", "Sec-Fetch-Site", "same-site")), 403, []string{"", "", ""}},
		"none, of another site":          {gotten("/ws/events", n.page("ada", "acme", "Origin", "", "Sec-Fetch-Site", "cross-site")), 403, []string{"", "", ""}},
		"none, typed into a browser":     {gotten("/ws/events", n.page("ada", "acme", "Origin", "", "Sec-Fetch-Site", "none")), 403, []string{"", "", ""}},
		"none, of a page of its own":     {gotten("/ws/events", n.page("ada", "acme", "Origin", "", "Sec-Fetch-Site", "same-origin")), 200, []string{"", "", "Origin"}},
		"WebSocket of a page of its own": {testkit.Handshake{Path: "/ws/events", Header: n.page("ada", "acme", "Origin", "", "Sec-Fetch-Site", "same-origin")}, 403, []string{"", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			c, answer := testkit.Try(t, n.dial, test.h)
			if c != nil {
				_ = c.Close()
			}
			if diff := cmp.Diff(test.cors, cors(answer)); diff != "" || answer.Status != test.status {
				t.Errorf("got %d %s, want %d; CORS (-want +got):\n%s", answer.Status, answer.Body, test.status, diff)
			}
		})
	}
	t.Run("programs", func(t *testing.T) {
		origins, err := gateway.ParseOrigins([]string{origin, gateway.OriginMissing})
		if err != nil {
			t.Fatal(err)
		}
		n := startNode(t, setup{over: streams, options: gateway.Options{Origins: origins}})
		expectWelcome(t, testkit.Connect(t, n.dial, gotten("/ws/events", n.page("ada", "acme", "Origin", ""))))
	})
}

// TestStreamPreflight: a browser asks before it sends JSON from another origin, without a cookie.
func TestStreamPreflight(t *testing.T) {
	n := startNode(t, setup{over: streams})
	ask := func(page string) testkit.Answer {
		t.Helper()
		h := gotten("/ws/events", http.Header{"Origin": {page}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"content-type"}})
		h.Method = http.MethodOptions
		_, answer := testkit.Try(t, n.dial, h)
		return answer
	}
	got := ask(origin)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Access-Control-Allow-Methods": "GET, POST",
		"Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID", "Vary": "Origin",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if got.Status != http.StatusNoContent {
		t.Errorf("status: got %d, want 204", got.Status)
	}
	if got := ask("https://evil.test"); got.Status != http.StatusForbidden || got.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("foreign: got %d and %v, want 403 and no leave", got.Status, got.Header)
	}
	n.gateway.StopAdmission()
	if got := ask(origin); got.Status != http.StatusNoContent {
		t.Errorf("while draining: got %d, want 204, or the browser tells the page nothing of the refusal", got.Status)
	}
	h := gotten("/ws/events", n.page("ada", "acme"))
	h.Method = http.MethodPut
	if _, answer := testkit.Try(t, n.dial, h); answer.Status != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET, POST" {
		t.Errorf("PUT: got %d, want 405", answer.Status)
	}
}

// TestStreamTakesNoMessages: what is no subscribe frame is told that it needs a WebSocket, and is
// no connection.
func TestStreamTakesNoMessages(t *testing.T) {
	calls := new(calls)
	h := &hooks{calls: calls}
	n := startNode(t, setup{over: streams, routes: []consumer.Route{h.route("/ws/h")}})
	_, answer := testkit.Try(t, n.dial, posted("/ws/h", n.page("ada", "acme"), `{"type":"message","text":"hello"}`))
	if answer.Status != http.StatusNotImplemented || !strings.Contains(answer.Body, `"code":"websocket_required"`) {
		t.Errorf("got %d %s, want 501 websocket_required", answer.Status, answer.Body)
	}
	n.expectConnections(0)
	testkit.Eventually(t, "the hooks end", func() bool {
		return !strings.Contains(calls.all(), "connect") || strings.Contains(calls.all(), "disconnect")
	})
	if strings.Contains(calls.all(), "receive") {
		t.Errorf("calls: got %s", calls.all())
	}
}

// TestStreamHead: nothing on the way may keep or change a stream.
func TestStreamHead(t *testing.T) {
	n := startNode(t, setup{over: streams})
	c, answer := testkit.Try(t, n.dial, gotten("/ws/events?group=all", n.page("ada", "acme")))
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	expectWelcome(t, c)
	expectType(t, c, "subscribed")
	if c.Retry() <= 0 {
		t.Error("the stream says nothing of retry")
	}
	c.Flatten()
	c.Expect(t, n.publish("acme", "all", "hello"))
}

// TestStreamHeartbeats: comments keep a stream alive on the way, and show that its client is gone.
func TestStreamHeartbeats(t *testing.T) {
	inBubbleOver(t, streams, gateway.Options{PingInterval: 20 * time.Second, PongTimeout: 5 * time.Second, WriteTimeout: 3 * time.Second, CloseTimeout: time.Second}, func(n *node) {
		t := n.tb
		c := n.subscribe("ada", "acme", "all")
		c.Timeout = 0
		_ = c.SetReadDeadline(time.Time{})
		time.AfterFunc(10*time.Minute, func() { n.publish("acme", "all", "done") })
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		if got := c.Comments(); got < 28 || got > 35 { // every 17.5 s to 20 s, to the next whole second
			t.Errorf("heartbeats in ten minutes: got %d, want 28 to 35", got)
		}
		time.Sleep(time.Minute) // and nobody reads
		synctest.Wait()
		if got := n.gateway.Connections(); got != 0 {
			t.Errorf("connections: got %d, want 0", got)
		}
	})
}

// TestStreamWhoseClientIsGone: it is noticed at once, not at the next event.
func TestStreamWhoseClientIsGone(t *testing.T) {
	n := startNode(t, setup{over: streams})
	n.leave(n.subscribe("ada", "acme", "all"), 0)
	n.expectMetric(1, "orgcast_connections_closed_total", "code=1001")
	testkit.Eventually(t, "its group is left", func() bool { return n.hub.Groups() == 0 })
	talker := n.subscribe("ada", "acme", "all")
	go func() { _, _ = io.Copy(talker.Conn, endless{}) }() // until the gateway closes the connection
	n.expectConnections(0)
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestStreamsAreNoStrangers: the border of the public listener takes a stream for a connection.
func TestStreamsAreNoStrangers(t *testing.T) {
	atBorder(t, 4, func(n *node, pipe *testkit.Listener) {
		t := n.tb
		var open []*testkit.Client
		for range 2 {
			c := testkit.Connect(t, pipe.Dial, gotten("/ws/events?group=all", n.page("ada", "acme")))
			expectWelcome(t, c)
			open = append(open, c)
		}
		for _, c := range open {
			expectType(t, c, "subscribed")
		}
		synctest.Wait()
		if got := n.metric("orgcast_handshake_sockets"); got != 0 {
			t.Errorf("orgcast_handshake_sockets: got %v, want 0", got)
		}
		time.Sleep(2 * time.Second)
		for range 5 { // of which two have room at a time
			defer dialPipe(t, pipe).Close()
			time.Sleep(2 * time.Second)
		}
		if got := n.metric("orgcast_sockets_closed_total", "reason=gave_way"); got != 3 {
			t.Errorf("gave way: got %v, want 3", got)
		}
		if got := n.gateway.Connections(); got != 2 {
			t.Errorf("connections: got %d, want 2", got)
		}
		var reading sync.WaitGroup
		for _, c := range open {
			c.Timeout = 0
			_ = c.SetReadDeadline(time.Time{})
			reading.Go(func() {
				if text, err := c.Next(); err != nil || !strings.Contains(text, "still there") {
					t.Errorf("got %s, %v", text, err)
				}
			})
		}
		time.Sleep(time.Minute) // longer than any deadline of a request
		n.publish("acme", "all", "still there")
		reading.Wait()
		for _, c := range open {
			_ = c.Close()
		}
	})
}

// TestPropertyStreamResumes: an EventSource of several groups that loses its connection again and
// again sees each event once, and those of each group in order, with nothing but the last id.
func TestPropertyStreamResumes(t *testing.T) {
	memory := pubsub.NewMemory()
	n := startNode(t, setup{over: streams, options: gateway.Options{Membership: everybody{}, History: memory}, bus: memory})
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		rounds++
		query, groups := url.Values{}, []string{}
		for i := range rapid.IntRange(1, 4).Draw(rt, "groups") {
			groups = append(groups, fmt.Sprintf("room.%d.%d", rounds, i))
			query.Add("group", groups[i])
		}
		lives := rapid.SliceOfN(rapid.IntRange(0, 15), 1, 6).Draw(rt, "lives") // events read in each
		list := rapid.SliceOfN(rapid.SampledFrom(groups), 1, 60).Draw(rt, "events")
		want, got := make(map[string][]string), make(map[string][]string)
		last := ""
		open := func() *testkit.Client {
			h := n.page("ada", "acme")
			if last != "" {
				h["Last-Event-Id"] = []string{last}
			}
			c, answer, err := testkit.Open(context.Background(), n.dial, gotten("/ws/events?"+query.Encode(), h))
			if c == nil {
				rt.Fatal(answer, err)
			}
			return c
		}
		c := open()
		for i, group := range list {
			want[group] = append(want[group], strconv.Itoa(i))
		}
		read := func(enough func(events, answers int) bool) {
			for events, answers := 0, 0; !enough(events, answers); {
				text, err := c.Next()
				if err != nil {
					rt.Fatalf("after %v, id %s, then %s: %v", got, last, c.LastID(), err)
				}
				var f struct {
					Type, Text, Group string
					Event             struct{ Type, Text string }
				}
				if err := json.Unmarshal([]byte(text), &f); err != nil {
					rt.Fatal(err)
				}
				if f.Event.Type != "" {
					f.Type, f.Text = f.Event.Type, f.Event.Text
				}
				switch f.Type {
				case "note":
					name, number, _ := strings.Cut(f.Text, " ")
					got[name] = append(got[name], number)
					events++
				case "subscribed":
					answers++
				case "welcome":
				default:
					rt.Fatalf("after %q: got %s", got, text)
				}
			}
			if id := c.LastID(); id != "" {
				last = id
			}
		}
		read(func(_, answers int) bool { return answers == len(groups) })
		var publishing sync.WaitGroup
		publishing.Go(func() {
			for i, group := range list {
				recordNotes(t, memory, "acme", group, group+" "+strconv.Itoa(i))
			}
		})
		defer publishing.Wait()
		total := func() (n int) {
			for list := range maps.Values(got) {
				n += len(list)
			}
			return n
		}
		for _, life := range lives {
			read(func(events, _ int) bool { return events >= life || total() == len(list) })
			_ = c.Close()
			c = open()
		}
		read(func(int, int) bool { return total() == len(list) })
		_ = c.Close()
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("events by group (-want +got):\n%s", diff)
		}
	})
}
