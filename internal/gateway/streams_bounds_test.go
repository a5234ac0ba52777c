package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestStreamsCountLikeWebSockets: one limit bounds the connections of both kinds.
func TestStreamsCountLikeWebSockets(t *testing.T) {
	for name, o := range map[string]func() gateway.Options{
		"user":         func() gateway.Options { return gateway.Options{MaxPerUser: 2} },
		"organization": func() gateway.Options { return gateway.Options{Quota: &capped{limit: 2}} },
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{options: o()})
			n.connect("/ws/events", "ada", "acme")
			c := testkit.Connect(t, n.dial, posted("/ws/events", n.page("ada", "acme"), `{"type":"subscribe","group":"all"}`))
			n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 429, "too_many_connections", true)
			n.expectRefused(t, posted("/ws/events", n.page("ada", "acme"), `{"type":"subscribe"}`), 429, "too_many_connections", true)
			n.expectRetry(t, n.page("ada", "acme"), 4429)
			testkit.Connect(t, n.dial, gotten("/ws/events", n.page("grace", "globex"))) // another organization has room
			n.leave(c, 2)
			n.connectSoon("ada", "acme")
		})
	}
}

// partly sends a request without the last bytes of its body.
func (n *node) partly(dial testkit.DialFunc, h testkit.Handshake, without int) io.ReadWriteCloser {
	n.tb.Helper()
	c, err := dial(n.tb.Context())
	if err != nil {
		n.tb.Fatal(err)
	}
	request := h.Bytes()
	if _, err := c.Write(request[:len(request)-without]); err != nil {
		n.tb.Fatal(err)
	}
	return c
}

// TestStreamBodyThatNeverComes: a client that announces a body and does not send it has a
// connection no longer than a stranger has.
func TestStreamBodyThatNeverComes(t *testing.T) {
	atBorder(t, 0, func(n *node, pipe *testkit.Listener) {
		t := n.tb
		c := n.partly(pipe.Dial, posted("/ws/events", n.page("ada", "acme"), `{"type":"subscribe","group":"all"}`), 5)
		synctest.Wait()
		if _, used := n.gateway.Books(); used == 0 {
			t.Error("what came of the body does not count for its organization")
		}
		began := time.Now()
		_, _ = io.Copy(io.Discard, c) // to its end
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("the connection was open for %v", took)
		}
		_ = c.Close()
		synctest.Wait()
		if entries, used := n.gateway.Books(); entries != 0 || used != 0 {
			t.Errorf("left in the books: %d entries, %d bytes", entries, used)
		}
	})
}

// TestStreamBodiesAreBounded: half-sent bodies count for their organization, which may not hold
// more than others' messages could. Then a POST gets 429, and others do not notice.
func TestStreamBodiesAreBounded(t *testing.T) {
	const limit, size, conns = 512 << 10, 60 << 10, 20
	n := startNode(t, setup{options: gateway.Options{ReceiveBytesPerOrganization: limit}})
	body := `{"type":"subscribe","group":"all","pad":"` + strings.Repeat("x", size) + `"}`
	for range conns {
		defer n.partly(n.dial, posted("/ws/events", n.page("ada", "acme"), body), 5).Close()
	}
	testkit.Eventually(t, "some are refused, for all others there is room", func() bool {
		held := n.metric("orgcast_receive_bytes")
		if held > limit {
			t.Fatalf("held: got %v bytes, want at most %d", held, limit)
		}
		return held >= limit/2 && n.metric("orgcast_receive_refused_total") >= conns/4
	})
	testkit.Eventually(t, "a POST is refused", func() bool {
		c, answer := testkit.Try(t, n.dial, posted("/ws/events", n.page("alan", "acme"), body))
		if c != nil {
			_ = c.Close()
			return false
		}
		return answer.Status == http.StatusTooManyRequests && strings.Contains(answer.Body, `"code":"rate_limit"`) && answer.Header.Get("Retry-After") != ""
	})
	c := testkit.Connect(t, n.dial, posted("/ws/events", n.page("grace", "globex"), body))
	expectWelcome(t, c)
	expectType(t, c, "subscribed")
}

// TestStreamsLeaveNothingInTheReceiveBudget: a message counts until it is handled, and then not,
// neither too little nor too much, whatever becomes of the stream.
func TestStreamsLeaveNothingInTheReceiveBudget(t *testing.T) {
	route, release := blocking(t, "/ws/slow", false)
	n := startNode(t, setup{routes: []consumer.Route{route}, options: gateway.Options{HookTimeout: time.Second}})
	n.connect("/ws/events", "alan", "acme") // else there is no budget
	expect := func(name string) {
		t.Helper()
		testkit.Eventually(t, name+": nothing is held", func() bool { _, used := n.gateway.Books(); return used == 0 })
	}
	const subscribe = `{"type":"subscribe","group":"all"}`
	for name, h := range map[string]testkit.Handshake{
		"POST":    posted("/ws/events", n.page("ada", "acme"), subscribe),
		"GET":     gotten("/ws/events?group=all", n.page("ada", "acme")),
		"nothing": gotten("/ws/events", n.page("ada", "acme")),
	} {
		c := testkit.Connect(t, n.dial, h)
		expectWelcome(t, c)
		expect(name)
		n.leave(c, 1)
		expect(name + ", left")
	}
	for _, body := range []string{`{"type":"ping"}`, `{`, `{"type":"subscribe","pad":"` + strings.Repeat("x", 64<<10) + `"}`} {
		if c, _ := testkit.Try(t, n.dial, posted("/ws/events", n.page("ada", "acme"), body)); c != nil {
			t.Errorf("%.20s: got a stream", body)
		}
		expect("refused")
	}
	c := testkit.Connect(t, n.dial, posted("/ws/slow", n.page("ada", "acme"), subscribe))
	testkit.Eventually(t, "a message waits", func() bool { _, used := n.gateway.Books(); return used > 0 })
	n.leave(c, 1)
	release()
	expect("not handled")
}

// TestStreamOfHalfAConnection: a client that says that it sends no more has left, as net/http sees
// it, too.
func TestStreamOfHalfAConnection(t *testing.T) {
	n := startNode(t, setup{over: streams})
	c := n.subscribe("ada", "acme", "all")
	c.HalfClose()
	n.expectConnections(0)
	n.expectMetric(1, "orgcast_connections_closed_total", "code=1001")
	testkit.Eventually(t, "its group is left", func() bool { return n.hub.Groups() == 0 })
}

// TestStreamReturnTimesDiffer: streams that lose their node at one moment do not come back in step.
func TestStreamReturnTimesDiffer(t *testing.T) {
	n := startNode(t, setup{over: streams})
	times := make(map[time.Duration]bool)
	for range 20 {
		c := n.subscribe("ada", "acme", "all")
		if got := c.Retry(); got < time.Second || got >= 3*time.Second {
			t.Errorf("retry: got %v, want 1 s to 3 s", got)
		}
		times[c.Retry()] = true
	}
	if len(times) < 10 {
		t.Errorf("20 streams come back at %d different times", len(times))
	}
}

// TestStreamPathsAreNotDecoded: as with WebSockets, nothing that a proxy takes for another path is
// served.
func TestStreamPathsAreNotDecoded(t *testing.T) {
	n := startNode(t, setup{})
	for _, path := range []string{"/sse/%65vents", "/sse%2fevents", "//sse/events", "/sse//events", "/sse/../ws/events", "/SSE/events", "/sse/", "/sse/ws/events"} {
		h := gotten("", n.page("ada", "acme"))
		h.Path = path
		if c, answer := testkit.Try(t, n.dial, h); c != nil || answer.Status != http.StatusNotFound {
			t.Errorf("%s: got %d %s, want 404", path, answer.Status, answer.Body)
		}
	}
}

// TestStreamIDsMatchTheirGroups: on the way from Redis to EventSource, the id says where each group
// of the URL stands, and garbage in Last-Event-ID is refused before it becomes an id.
func TestStreamIDsMatchTheirGroups(t *testing.T) {
	n, _ := redisNode(t, setup{over: streams})
	for _, last := range []string{"garbage", "1-1,2-2,3-3", "1-1", "1-1,x", "1-1,\x01", "1-1,2-2.E\u00fc"} {
		h := gotten("/ws/events?group=room.1&group=room.2", n.page("ada", "acme", "Last-Event-Id", last))
		c, answer := testkit.Try(t, n.dial, h)
		if c != nil || answer.Status != http.StatusBadRequest {
			t.Errorf("Last-Event-ID %q: got %d %s, want 400", last, answer.Status, answer.Body)
		}
	}
	c := testkit.Connect(t, n.dial, gotten("/ws/events?group=room.1&group=room.2", n.page("ada", "acme")))
	expectWelcome(t, c)
	expectType(t, c, "subscribed")
	expectType(t, c, "subscribed")
	if first, second, ok := strings.Cut(c.LastID(), ","); !ok || strings.ContainsAny(first+second, "\r\n") {
		t.Errorf("id: got %q, want the places of two groups", c.LastID())
	}
	var ids bytes.Buffer
	for i := range 3 {
		n.publish("acme", "room.1", fmt.Sprint(i)) // transient: the id stays
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&ids, c.LastID())
	}
	if lines := strings.Fields(ids.String()); len(lines) != 3 || lines[0] != lines[2] {
		t.Errorf("ids after transient events: got %q, want that they stay", lines)
	}
}
