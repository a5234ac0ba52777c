package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// goText are pieces of the error texts of Go and its libraries, none of which a browser may see.
var goText = []string{"json:", "invalid character", "unmarshal", "event:", "consumer:", "orgctx:", "gateway:", "websocket:", "redis", "goroutine", "panic", "context "}

// TestBadMessage: what is no message for us gets an error frame with a stable code, and the
// connection lives.
func TestBadMessage(t *testing.T) {
	tests := map[string]struct {
		frame string
		code  string
	}{
		"empty":                   {"", "bad_message"},
		"no JSON":                 {"hello", "bad_message"},
		"half an object":          {`{"type":"subscribe"`, "bad_message"},
		"two objects":             {`{"type":"ping"}{"type":"ping"}`, "bad_message"},
		"array":                   {`[{"type":"ping"}]`, "bad_message"},
		"string":                  {`"ping"`, "bad_message"},
		"number":                  {`1e999`, "bad_message"},
		"null":                    {`null`, "bad_message"},
		"NaN":                     {`{"type":NaN}`, "bad_message"},
		"type twice":              {`{"type":"ping","type":"subscribe"}`, "bad_message"},
		"type twice, escaped":     {`{"type":"ping","\u0074ype":"subscribe"}`, "bad_message"},
		"no type":                 {`{}`, "unknown_type"},
		"type is a number":        {`{"type":1}`, "unknown_type"},
		"type is an object":       {`{"type":{"type":"ping"}}`, "unknown_type"},
		"type in capitals":        {`{"TYPE":"ping"}`, "unknown_type"},
		"ping in capitals":        {`{"type":"PING"}`, "unknown_type"},
		"unknown type":            {`{"type":"drop table"}`, "unknown_type"},
		"type of the server":      {`{"type":"welcome"}`, "unknown_type"},
		"event of a back end":     {`{"type":"note","organization_id":"acme","group":"all"}`, "unknown_type"},
		"no group":                {`{"type":"subscribe"}`, "unknown_group"},
		"empty group":             {`{"type":"subscribe","group":""}`, "unknown_group"},
		"group is a number":       {`{"type":"subscribe","group":7}`, "bad_message"},
		"group is a list":         {`{"type":"subscribe","group":["all"]}`, "bad_message"},
		"token is an object":      {`{"type":"subscribe","group":"all","token":{}}`, "bad_message"},
		"group of no rule":        {`{"type":"subscribe","group":"secret"}`, "unknown_group"},
		"somebody else's group":   {`{"type":"subscribe","group":"user.alan"}`, "unknown_group"},
		"beginning of a name":     {`{"type":"subscribe","group":"user.adam"}`, "unknown_group"},
		"not ASCII":               {`{"type":"subscribe","group":"room.ü"}`, "unknown_group"},
		"huge":                    {`{"type":"subscribe","group":"room.` + strings.Repeat("a", 60000) + `"}`, "unknown_group"},
		"name with our separator": {`{"type":"subscribe","group":"room.x}:group:all"}`, "unknown_group"},
		"full channel name":       {`{"type":"subscribe","group":"orgcast:{globex}:group:all"}`, "unknown_group"},
		"other organization":      {`{"type":"subscribe","group":"globex/all"}`, "unknown_group"},
		"glob":                    {`{"type":"subscribe","group":"room.*"}`, "unknown_group"},
		"line end":                {`{"type":"subscribe","group":"room.1\r\n"}`, "unknown_group"},
		"zero byte":               {`{"type":"subscribe","group":"room.1\u0000"}`, "unknown_group"},
		"leave a bad name":        {`{"type":"unsubscribe","group":"ü"}`, "unknown_group"},
		"wrong token":             {`{"type":"subscribe","group":"secret","token":"99999999999.00"}`, "unknown_group"},
		"deep arrays":             {strings.Repeat("[", 30000) + strings.Repeat("]", 30000), "bad_message"},
		"deep, cut":               {`{"a":` + strings.Repeat("[", 60000), "bad_message"},
		"deep objects":            {`{"type":"x","a":` + strings.Repeat(`{"a":`, 10001) + "1" + strings.Repeat("}", 10002), "bad_message"},
	}
	n := startNode(t, setup{options: gateway.Options{FrameBurst: 1000}})
	c := n.subscribe("ada", "acme", "all")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := c.SendText(test.frame); err != nil {
				t.Fatal(err)
			}
			got, err := c.Next()
			if err != nil {
				t.Fatalf("the connection ended: %v", err)
			}
			if !strings.Contains(got, `"type":"error"`) || !strings.Contains(got, `"code":"`+test.code+`"`) {
				t.Errorf("got %.300s, want an error frame with the code %s", got, test.code)
			}
			for _, bad := range goText {
				if strings.Contains(strings.ToLower(got), bad) {
					t.Errorf("frame %.300s tells of %q", got, bad)
				}
			}
			_ = c.SendText(`{"type":"ping"}`)
			c.Expect(t, `{"type":"pong"}`)
		})
	}
	if got := n.hub.Groups(); got != 1 {
		t.Errorf("groups: got %d, want 1", got)
	}
	c.Expect(t, n.publish("acme", "all", "still here"))
}

// TestOrganizationIsNotTheClients: whatever a page writes into its messages, it stays in its own.
func TestOrganizationIsNotTheClients(t *testing.T) {
	n := startNode(t, setup{})
	c := testkit.Connect(t, n.dial, n.handshake("/ws/events?organization_id=globex&org=globex", "ada", "acme", nil))
	_ = c.SendText(`{"type":"subscribe","group":"all","organization_id":"globex","organization":"globex"}`)
	c.Expect(t, `{"type":"subscribed","group":"all"}`)
	n.publish("globex", "all", "foreign")
	c.Expect(t, n.publish("acme", "all", "own"))
}

func TestWrongFrames(t *testing.T) {
	tests := map[string]struct {
		send []testkit.Frame
		code int
	}{
		"binary":              {[]testkit.Frame{frame(testkit.OpBinary, `{"type":"ping"}`)}, 1003},
		"fragmented binary":   {[]testkit.Frame{more(frame(testkit.OpBinary, "a")), cont("b")}, 1003},
		"not UTF-8":           {[]testkit.Frame{text("{\"type\":\"\xff\"}")}, 1007},
		"not UTF-8, split":    {[]testkit.Frame{more(text("{\"type\":\"\xe2\x82")), cont("\"}")}, 1007},
		"too large":           {[]testkit.Frame{text(strings.Repeat("x", 1025))}, 1009},
		"too large, in parts": {[]testkit.Frame{more(text(strings.Repeat("x", 800))), cont(strings.Repeat("x", 800))}, 1009},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{options: gateway.Options{MaxFrame: 1024}})
			other := n.subscribe("alan", "acme", "all")
			c := n.subscribe("ada", "acme", "all")
			_ = c.Send(test.send...)
			if _, reason := c.ExpectClose(t, test.code); reason != "" {
				t.Errorf("reason: got %q, want none", reason)
			}
			n.expectConnections(1)
			n.expectMetric(1, "orgcast_connections_closed_total", fmt.Sprintf("code=%d", test.code))
			other.Expect(t, n.publish("acme", "all", "still here"))
		})
	}
}

// TestTenThousandSubscribes: one connection that floods ends, or is told to stop; others feel nothing.
func TestTenThousandSubscribes(t *testing.T) {
	flood := func(c *testkit.Client, name func(int) string) {
		for i := range 10_000 {
			if c.SendText(`{"type":"subscribe","group":"`+name(i)+`"}`) != nil {
				return // the server has closed
			}
		}
	}
	t.Run("faster than allowed", func(t *testing.T) {
		n := startNode(t, setup{})
		other := n.subscribe("alan", "acme", "room.1")
		c := n.subscribe("ada", "acme")
		go flood(c, func(i int) string { return fmt.Sprintf("room.%d", i) })
		c.ExpectClose(t, 4429)
		n.expectConnections(1)
		if got := n.hub.Groups(); got != 1 {
			t.Errorf("groups: got %d, want 1", got)
		}
		other.Expect(t, n.publish("acme", "room.1", "still here"))
	})
	t.Run("more than allowed", func(t *testing.T) {
		n := startNode(t, setup{options: gateway.Options{FrameBurst: 100_000, GroupsPerConnection: 50}})
		other := n.subscribe("alan", "acme", "room.1")
		c := n.subscribe("ada", "acme")
		go flood(c, func(i int) string { return fmt.Sprintf("room.%d", i) })
		for i := range 10_000 {
			want := `{"type":"subscribed"`
			if i >= 50 {
				want = `{"type":"error","code":"too_many_groups"`
			}
			if got, err := c.Next(); err != nil || !strings.HasPrefix(got, want) {
				t.Fatalf("answer %d: got %s, %v, want %s", i, got, err, want)
			}
		}
		if got := n.hub.Groups(); got != 50 {
			t.Errorf("groups: got %d, want 50", got)
		}
		want := n.publish("acme", "room.1", "still here")
		other.Expect(t, want)
		c.Expect(t, want)
	})
	t.Run("the same again", func(t *testing.T) {
		n := startNode(t, setup{options: gateway.Options{FrameBurst: 100_000}})
		c := n.subscribe("ada", "acme")
		go flood(c, func(int) string { return "room.1" })
		for range 10_000 {
			c.Expect(t, `{"type":"subscribed","group":"room.1"}`)
		}
		want := n.publish("acme", "room.1", "once")
		c.Expect(t, want)
		_ = c.SendText(`{"type":"unsubscribe","group":"room.1"}`)
		c.Expect(t, `{"type":"unsubscribed","group":"room.1"}`)
		if got := n.hub.Groups(); got != 0 {
			t.Errorf("groups: got %d, want 0", got)
		}
	})
}

// redisNode is a node on a real Redis, and a client with which to publish what no publisher of ours would.
func redisNode(tb testing.TB, s setup) (*node, *redis.Client) {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(tb), ContextTimeoutEnabled: true, MaxRetries: -1})
	tb.Cleanup(func() { _ = client.Close() })
	s.bus = pubsub.NewRedis(client, mustKeyspace(tb), calm())
	return startNode(tb, s), client
}

// malformed are payloads of acme's groups that must reach nobody.
func malformed() map[string]string {
	return map[string]string{
		"empty":                     ``,
		"no JSON":                   `hello`,
		"binary":                    "\x00\x01\x02\xff",
		"half an object":            `{"type":"note","organization_id":"acme"`,
		"trailing text":             `{"type":"note","organization_id":"acme"}x`,
		"array":                     `[{"type":"note","organization_id":"acme"}]`,
		"null":                      `null`,
		"string":                    `"note"`,
		"no organization":           `{"type":"note"}`,
		"null organization":         `{"type":"note","organization_id":null}`,
		"empty organization":        `{"type":"note","organization_id":""}`,
		"other organization":        `{"type":"note","organization_id":"globex"}`,
		"organization in capitals":  `{"type":"note","organization_id":"ACME"}`,
		"name in capitals":          `{"type":"note","ORGANIZATION_ID":"acme"}`,
		"organization with a space": `{"type":"note","organization_id":"acme "}`,
		"organization in a list":    `{"type":"note","organization_id":["acme"]}`,
		"organization inside":       `{"type":"note","data":{"organization_id":"acme"}}`,
		"organization twice":        `{"type":"note","organization_id":"acme","organization_id":"globex"}`,
		"twice, the other way":      `{"type":"note","organization_id":"globex","organization_id":"acme"}`,
		"twice, escaped":            `{"type":"note","organization_id":"acme","organization\u005fid":"globex"}`,
		"no type":                   `{"organization_id":"acme"}`,
		"type twice":                `{"type":"note","type":"note","organization_id":"acme"}`,
		"type is a number":          `{"type":1,"organization_id":"acme"}`,
		"type of no valid form":     `{"type":"a b","organization_id":"acme"}`,
		"not UTF-8":                 "{\"type\":\"note\",\"organization_id\":\"acme\",\"text\":\"\xff\"}",
		"too large":                 `{"type":"note","organization_id":"acme","text":"` + strings.Repeat("x", event.DefaultMaxSize) + `"}`,
		"too deep":                  `{"type":"note","organization_id":"acme","a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		"WebSocket frame":           "\x81\x02{}",
	}
}

// TestMalformedPayloads publishes everything wrong that Redis will carry. Nobody gets it, and what
// follows arrives.
func TestMalformedPayloads(t *testing.T) {
	n, client := redisNode(t, setup{})
	ours, theirs := n.subscribe("ada", "acme", "all"), n.subscribe("grace", "globex", "all")
	channel := mustKeyspace(t).GroupChannel(mustGroup(t, "acme", "all"))
	for name, payload := range malformed() {
		t.Run(name, func(t *testing.T) {
			if err := client.Publish(t.Context(), channel, payload).Err(); err != nil {
				t.Fatal(err)
			}
			ours.Expect(t, n.publish("acme", "all", "after "+name))
			theirs.Expect(t, n.publish("globex", "all", "after "+name))
		})
	}
	if got, want := n.metric("orgcast_connections_closed_total"), 0.0; got != want {
		t.Errorf("connections closed: got %v, want %v", got, want)
	}
	// Names that only look like the channel of the group.
	for _, name := range []string{"orgcast:{acme}:group:All", "orgcast:acme:group:all", "{acme}:group:all", "orgcast:{acme}:group:all ", "ORGCAST:{acme}:group:all", "orgcast:{acme}:group:"} {
		if err := client.Publish(t.Context(), name, `{"type":"note","organization_id":"acme"}`).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ours.Expect(t, n.publish("acme", "all", "last"))
}

// TestSlowReceiveDelaysNothing: a Receive that does not return keeps up neither events nor pongs
// nor the end of its connection.
func TestSlowReceiveDelaysNothing(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var order calls
	h := &hooks{calls: &order, connect: joining("all"), receive: func(context.Context, consumer.Conn, event.RawMessage) error {
		close(entered)
		<-release
		return nil
	}}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/slow")}, options: gateway.Options{CloseTimeout: 100 * time.Millisecond, HookTimeout: time.Second}})
	c := n.connect("/ws/slow", "ada", "acme")
	_ = c.SendText("x")
	<-entered
	c.Expect(t, n.publish("acme", "all", "meanwhile"))
	_ = c.Send(frame(testkit.OpPing, "p"))
	if f, err := c.ReadFrame(); err != nil || describe(f) != "pong p" {
		t.Fatalf("got %v, %v, want pong p", f, err)
	}
	_ = c.Send(testkit.CloseFrame(1000, ""))
	c.ExpectClose(t, 1000) // the browser is let go
	testkit.Eventually(t, "groups are left", func() bool { return n.hub.Groups() == 0 })
	if got := order.all(); got != "connect receive" {
		t.Errorf("hooks: got %q; Disconnect must wait for Receive", got)
	}
	close(release)
	testkit.Eventually(t, "Disconnect", func() bool { return order.all() == "connect receive disconnect" })
}

// TestReceiveOneByOne: frames reach Receive in order and one at a time.
func TestReceiveOneByOne(t *testing.T) {
	var inside atomic.Int32
	done := make(chan struct{})
	var got calls
	h := &hooks{receive: func(_ context.Context, _ consumer.Conn, f event.RawMessage) error {
		if inside.Add(1) != 1 {
			t.Error("two frames at once")
		}
		defer inside.Add(-1)
		got.add(string(f.Data))
		if string(f.Data) == "99" {
			close(done)
		}
		return nil
	}}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/order")}})
	c := n.connect("/ws/order", "ada", "acme")
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
		_ = c.SendText(fmt.Sprint(i))
	}
	select {
	case <-done:
	case <-time.After(testkit.Patience):
	}
	if got, want := got.all(), strings.Join(want, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestControlFramesAndFragmentsAreLimited: they cost as much as messages, so the same limit holds.
func TestControlFramesAndFragmentsAreLimited(t *testing.T) {
	for name, test := range map[string]struct{ first, each []byte }{
		"pings":           {nil, []byte{0x89, 0x80, 0, 0, 0, 0}},
		"pongs":           {nil, []byte{0x8a, 0x80, 0, 0, 0, 0}},
		"empty fragments": {[]byte{0x01, 0x80, 0, 0, 0, 0}, []byte{0x00, 0x80, 0, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			c := startNode(t, setup{}).connect("/ws/events", "ada", "acme")
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = c.Write(append(test.first, bytes.Repeat(test.each, 5000)...)) // it may be cut off
			}()
			c.ExpectClose(t, 4429)
			<-sent
		})
	}
}

// TestInboxIsBoundedInBytes: frames that wait for a slow consumer take no more room than events
// that wait for a slow browser.
func TestInboxIsBoundedInBytes(t *testing.T) {
	release := make(chan struct{})
	h := &hooks{receive: func(ctx context.Context, _ consumer.Conn, _ event.RawMessage) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/x")}, options: gateway.Options{QueueBytes: 64 << 10, MaxFrame: 16 << 10}})
	defer close(release)
	c := n.connect("/ws/x", "ada", "acme")
	for range 8 {
		_ = c.SendText(strings.Repeat("x", 15<<10)) // the last ones may meet the end
	}
	c.ExpectClose(t, 4429)
}
