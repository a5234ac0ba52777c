package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"orgcast/internal/gateway"
	"orgcast/internal/sse"
	"orgcast/internal/testkit"
)

// via is a transport, for suites that run over each.
type via int

const (
	webSockets via = iota
	streams
)

// overEach runs a test over each transport.
func overEach(t *testing.T, test func(t *testing.T, over via)) {
	t.Helper()
	for name, over := range map[string]via{"WebSocket": webSockets, "SSE": streams} {
		t.Run(name, func(t *testing.T) { test(t, over) })
	}
}

// streamsLike returns the carrier of streams for a gateway with these options.
func streamsLike(o gateway.Options) *sse.Carrier {
	s := sse.Options{MaxBody: 64 << 10, WriteTimeout: 10 * time.Second, AckTimeout: time.Minute}
	if o.WriteTimeout > 0 {
		s.WriteTimeout, s.AckTimeout = o.WriteTimeout, max(s.AckTimeout, o.WriteTimeout)
	}
	if o.MaxFrame > 0 {
		s.MaxBody = o.MaxFrame
	}
	return sse.New(s)
}

// streamPath returns where the stream of a route is.
func streamPath(path string) string { return strings.Replace(path, "/ws/", sse.Prefix, 1) }

// handshake asks for a connection. That of a stream is a POST, whose refusals have their own
// status.
func (over via) handshake(path string, header http.Header) testkit.Handshake {
	if over == webSockets {
		return testkit.Handshake{Path: path, Header: header}
	}
	return posted(path, header, `{"type":"subscribe","group":"all"}`)
}

// posted asks for a stream that begins with a message.
func posted(path string, header http.Header, message string) testkit.Handshake {
	return testkit.Handshake{Method: http.MethodPost, Path: streamPath(path), Header: header, Stream: true, Body: message}
}

// gotten asks for a stream as EventSource does.
func gotten(path string, header http.Header) testkit.Handshake {
	return testkit.Handshake{Path: streamPath(path), Header: header, Stream: true}
}

// connect opens a connection to a route of the test's own.
func (over via) connect(tb testing.TB, dial testkit.DialFunc, path string, header http.Header) *testkit.Client {
	tb.Helper()
	if over == webSockets {
		return testkit.Connect(tb, dial, testkit.Handshake{Path: path, Header: header})
	}
	c := testkit.Connect(tb, dial, gotten(path, header))
	expectWelcome(tb, c)
	c.Flatten()
	return c
}

// subscribe connects to /ws/events and joins groups. A header with a subprotocol makes no
// difference to a stream.
func (over via) subscribe(tb testing.TB, dial testkit.DialFunc, header http.Header, groups ...string) *testkit.Client {
	tb.Helper()
	if over == streams {
		c := testkit.Connect(tb, dial, posted("/ws/events", header, subscribeText(groups)))
		expectWelcome(tb, c)
		for range groups {
			expectType(tb, c, "subscribed")
		}
		c.Flatten()
		return c
	}
	c := testkit.Connect(tb, dial, testkit.Handshake{Path: "/ws/events", Header: header})
	if header["Sec-Websocket-Protocol"] != nil {
		expectWelcome(tb, c)
	}
	for _, g := range groups {
		if err := c.SendText(`{"type":"subscribe","group":"` + g + `"}`); err != nil {
			tb.Fatal(err)
		}
		c.Expect(tb, `{"type":"subscribed","group":"`+g+`"}`)
	}
	return c
}

// subscribeText is a frame for some groups.
func subscribeText(groups []string) string {
	all := make(map[string]struct{})
	for _, g := range groups {
		all[g] = struct{}{}
	}
	text, _ := json.Marshal(map[string]any{"type": "subscribe", "groups": all})
	return string(text)
}

func expectWelcome(tb testing.TB, c *testkit.Client) {
	tb.Helper()
	expectType(tb, c, "welcome")
}

func expectType(tb testing.TB, c *testkit.Client, kind string) {
	tb.Helper()
	text, err := c.Next()
	if err != nil {
		tb.Fatal(err)
	}
	var frame struct{ Type string }
	if err := json.Unmarshal([]byte(text), &frame); err != nil || frame.Type != kind {
		tb.Fatalf("got %s, want a frame %s", text, kind)
	}
}
