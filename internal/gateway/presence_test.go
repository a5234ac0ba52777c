package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/orgctx"
	"orgcast/internal/presence"
	"orgcast/internal/routefile"
	"orgcast/internal/testkit"
)

// presenceFrame is what the tests read of frames about presence.
type presenceFrame struct {
	Type, Code, Group string
	Users, Joined     []presentUser
	Left              []presentUser
	Count             int
}

type presentUser struct {
	UserID      string `json:"user_id"`
	Connections int
	Since       string
	State       json.RawMessage
}

// text returns the frame in short: users and their connections.
func (f presenceFrame) text() string {
	parts := []string{f.Type}
	add := func(sign string, list []presentUser) {
		for _, u := range list {
			parts = append(parts, sign+u.UserID+strings.Repeat("'", max(u.Connections-1, 0))+string(u.State))
		}
	}
	add("", f.Users)
	add("+", f.Joined)
	add("-", f.Left)
	if f.Code != "" {
		parts = append(parts, f.Code)
	}
	return strings.Join(parts, " ")
}

// nextPresence reads frames up to one about presence, or an error.
func nextPresence(tb testing.TB, c *testkit.Client) presenceFrame {
	tb.Helper()
	for {
		text, err := c.Next()
		if err != nil {
			tb.Fatal(err)
		}
		var f presenceFrame
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			tb.Fatalf("%s: %v", text, err)
		}
		if f.Type == "error" || strings.HasPrefix(f.Type, "presence") {
			return f
		}
	}
}

// awaitPresence reads frames about presence until the users, as far as they are told, are the wanted
// ones.
func awaitPresence(tb testing.TB, c *testkit.Client, known map[string]string, want ...string) {
	tb.Helper()
	for {
		var got []string
		for user, state := range known {
			got = append(got, user+state)
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		f := nextPresence(tb, c)
		if f.Type == "presence" {
			clear(known)
		}
		for _, u := range append(f.Users, f.Joined...) {
			known[u.UserID] = string(u.State)
		}
		for _, u := range f.Left {
			delete(known, u.UserID)
		}
		if len(known) != f.Count || f.Type == "error" {
			tb.Fatalf("got %+v, which makes %v", f, known)
		}
	}
}

// presentNode starts a node that shows who is in which group.
func presentNode(tb testing.TB, policy string, room gateway.Presence) *node {
	tb.Helper()
	rules, err := consumer.ParsePolicy(consumer.DefaultPolicy, []byte(signingKey))
	if err != nil {
		tb.Fatal(err)
	}
	shows, err := consumer.ParsePresencePolicy(policy)
	if err != nil {
		tb.Fatal(err)
	}
	events := consumer.JSON(consumer.Events{Policy: rules, Presence: shows})
	routes := new(consumer.Registry)
	if err := routes.Add(consumer.Route{Pattern: "/ws/events", New: func() consumer.OrganizationAwareConsumer { return events }}); err != nil {
		tb.Fatal(err)
	}
	return startNode(tb, setup{options: gateway.Options{Routes: routes, Presence: room}})
}

// runRoom returns a room without other nodes.
func runRoom(tb testing.TB) *presence.Room {
	tb.Helper()
	room := presence.NewAlone(presence.Options{})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = room.Run(ctx) })
	tb.Cleanup(func() { stop(); running.Wait() })
	return room
}

func (n *node) watching(user, org, frame string) *testkit.Client {
	n.tb.Helper()
	c := n.connectAs("/ws/events", consumer.ProtocolV1, user, org)
	n.send(c, frame)
	return c
}

func (n *node) send(c *testkit.Client, frame string) {
	n.tb.Helper()
	if err := c.SendText(frame); err != nil {
		n.tb.Fatal(err)
	}
}

const watchAll = `{"type":"subscribe","groups":{"all":{"presence":true}}}`

// TestPresence: members see who joins, shows a state and leaves; those who have not asked for it are
// seen, too, and get no frame. Users of another organization with the same names are not seen.
func TestPresence(t *testing.T) {
	n := presentNode(t, "room.*=users, *=states", runRoom(t))
	stranger := n.watching("ada", "globex", watchAll)
	stranger.Expect(t, `{"type":"subscribed","group":"all"}`)
	awaitPresence(t, stranger, map[string]string{}, "ada")
	ada, known := n.watching("ada", "acme", watchAll), map[string]string{}
	ada.Expect(t, `{"type":"subscribed","group":"all"}`)
	awaitPresence(t, ada, known, "ada")
	alan := n.watching("alan", "acme", `{"type":"subscribe","group":"all"}`)
	awaitPresence(t, ada, known, "ada", "alan")
	n.send(alan, `{"type":"presence_set","group":"all","state":{"typing": true}}`)
	awaitPresence(t, ada, known, "ada", `alan{"typing":true}`)
	second := n.watching("alan", "acme", watchAll)
	if f := nextPresence(t, second); f.text() != `presence ada alan'{"typing":true}` || f.Users[0].Since == "" {
		t.Errorf("got %+v", f)
	}
	if f := nextPresence(t, ada); f.text() != `presence_change +alan'{"typing":true}` {
		t.Errorf("got %+v", f)
	}
	n.send(second, `{"type":"unsubscribe","group":"all"}`)
	n.send(alan, `{"type":"unsubscribe","group":"all"}`)
	awaitPresence(t, ada, known, "ada")
	alan.Expect(t, `{"type":"subscribed","group":"all"}`)
	alan.Expect(t, `{"type":"unsubscribed","group":"all"}`)
	n.send(stranger, `{"type":"ping"}`)
	stranger.Expect(t, `{"type":"pong"}`) // and nothing else meanwhile
}

// TestPresenceOverStreams: a stream sees and is seen like a WebSocket.
func TestPresenceOverStreams(t *testing.T) {
	n := presentNode(t, "*=users", runRoom(t))
	ada, known := n.watching("ada", "acme", watchAll), map[string]string{}
	awaitPresence(t, ada, known, "ada")
	stream := testkit.Connect(t, n.dial, posted("/ws/events", n.page("alan", "acme", "Content-Type", "application/json"), watchAll))
	awaitPresence(t, ada, known, "ada", "alan")
	stream.Flatten()
	awaitPresence(t, stream, map[string]string{}, "ada", "alan")
}

// TestPresenceRefused: what the policy does not show gets a code of its own, and subscriptions
// without it are not affected.
func TestPresenceRefused(t *testing.T) {
	n := presentNode(t, "room.1=states, room.*=users", runRoom(t))
	c := n.connectAs("/ws/events", consumer.ProtocolV1, "ada", "acme")
	for _, test := range []struct{ send, want string }{
		{watchAll, "error presence_refused"},
		{`{"type":"subscribe","groups":{"role.none":{"presence":true}}}`, "error unknown_group"}, // as without presence
		{`{"type":"presence_set","group":"room.2","state":{}}`, "error presence_refused"},
		{`{"type":"presence_set","group":"room.1","state":{}}`, "error unknown_group"},
		{`{"type":"subscribe","groups":{"room.1":{"presence":true}}}`, "presence ada"},
		{`{"type":"presence_set","group":"room.1","state":[]}`, "error bad_message"},
		{`{"type":"presence_set","group":"room.1"}`, "error bad_message"},
		{`{"type":"presence_set","group":"room.1","state":{"a":"` + strings.Repeat("x", 256) + `"}}`, "error bad_message"},
		{`{"type":"presence_set","group":"room.1","state":{"a":1}}`, `presence_change +ada{"a":1}`},
		{`{"type":"presence_set","group":"room.1","state":null}`, `presence_change +ada`},
		{`{"type":"subscribe","group":"room.3"}`, ""},
		{`{"type":"presence_set","group":"room.3","state":{}}`, "error presence_refused"},
		{`{"type":"subscribe","group":"all"}`, ""},
	} {
		n.send(c, test.send)
		if test.want == "" {
			continue
		}
		if f := nextPresence(t, c); f.text() != test.want {
			t.Errorf("%s: got %+v, want %s", test.send, f, test.want)
		}
	}
	plain := n.connectAs("/ws/events", "", "ada", "acme")
	n.send(plain, `{"type":"subscribe","groups":{"room.1":{"presence":true}}}`)
	if f := nextPresence(t, plain); f.text() != "error presence_refused" {
		t.Errorf("without the subprotocol: got %+v", f)
	}
}

// departures records how members leave.
type departures struct {
	*presence.Room

	mu   sync.Mutex
	left []presence.Departure
}

func (d *departures) Leave(g event.Group, m presence.Member, how presence.Departure) {
	d.mu.Lock()
	d.left = append(d.left, how)
	d.mu.Unlock()
	d.Room.Leave(g, m, how)
}

func (d *departures) list() []presence.Departure {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.left)
}

// TestDepartures: who leaves a page is gone, and so is who may not stay; all others may come back.
func TestDepartures(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(n *node, c *testkit.Client)
		want presence.Departure
	}{
		"closed by the page": {func(_ *node, c *testkit.Client) { _ = c.Send(frame(testkit.OpClose, "\x03\xe8")) }, presence.Closed},
		"closed by the page without a code": {func(_ *node, c *testkit.Client) {
			_ = c.Send(frame(testkit.OpClose, ""))
		}, presence.Closed},
		"reloaded":     {func(_ *node, c *testkit.Client) { _ = c.Send(frame(testkit.OpClose, "\x03\xe9")) }, presence.Lost},
		"lost":         {func(_ *node, c *testkit.Client) { _ = c.Conn.Close() }, presence.Lost},
		"drained":      {func(n *node, _ *testkit.Client) { go func() { _ = n.gateway.Drain(n.tb.Context(), 0) }() }, presence.Lost},
		"unsubscribed": {func(n *node, c *testkit.Client) { n.send(c, `{"type":"unsubscribe","group":"all"}`) }, presence.Closed},
		"the page breaks the rate limit": {func(_ *node, c *testkit.Client) {
			_ = c.SendText(`[`)
			for range 300 {
				_ = c.SendText("{}")
			}
		}, presence.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			room := &departures{Room: runRoom(t)}
			n := presentNode(t, "*=users", room)
			c := n.watching("ada", "acme", watchAll)
			nextPresence(t, c)
			test.end(n, c)
			testkit.Eventually(t, "a departure", func() bool { return len(room.list()) > 0 })
			if diff := cmp.Diff([]presence.Departure{test.want}, room.list()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTooManyGroupsForPresence: a page that joins more groups than the node may hold for its
// organization gets the code unavailable for each of the others, and stays subscribed to them.
func TestTooManyGroupsForPresence(t *testing.T) {
	room := runRoom(t)
	room.SetBytes(64 << 10)
	n := presentNode(t, "*=users", room)
	c := n.watching("ada", "acme", watchAll)
	awaitPresence(t, c, map[string]string{}, "ada")
	const groups = 90 // with the first one, fewer than a connection may join
	var names []string
	for i := range groups {
		names = append(names, fmt.Sprintf(`"room.%d":{"presence":true}`, i))
	}
	n.send(c, `{"type":"subscribe","groups":{`+strings.Join(names, ",")+`}}`)
	shown, refused := make(map[string]bool), make(map[string]bool)
	for len(shown)+len(refused) < groups {
		switch f := nextPresence(t, c); {
		case f.Type == "error" && f.Code != "unavailable":
			t.Fatalf("got %+v", f)
		case f.Type == "error":
			refused[f.Group] = true
		default:
			shown[f.Group] = true
		}
	}
	if len(shown) == 0 || len(refused) < groups/2 {
		t.Errorf("got %d groups with presence and %d without", len(shown), len(refused))
	}
	awaitPresence(t, n.watching("ada", "globex", watchAll), map[string]string{}, "ada") // another organization has room
	note := n.publish("acme", "room.89", "hello")
	for text := ""; !strings.Contains(text, note); {
		var err error
		if text, err = c.Next(); err != nil {
			t.Fatalf("an event of a group without presence: %v", err)
		}
	}
}

// astray shows every member a list of another organization's group.
type astray struct{ *presence.Room }

func (a astray) Attend(_ event.Group, _ string, m presence.Member, _ bool) error {
	org, err := orgctx.ParseID("globex")
	if err != nil {
		return err
	}
	g, err := event.NewGroup(org, "all")
	if err == nil {
		m.Show(presence.NewFrame(g, []presence.User{{UserID: "secret"}}))
	}
	return err
}

// TestIsolationOfPresence: a frame about another organization's group is stopped, and the
// connection ends.
func TestIsolationOfPresence(t *testing.T) {
	n := presentNode(t, "*=users", astray{runRoom(t)})
	c := n.watching("ada", "acme", watchAll)
	if texts, _ := c.ExpectClose(t, 1011); strings.Contains(strings.Join(texts, ""), "secret") {
		t.Errorf("got %q", texts)
	}
	if got := n.gateway.Violations(); got != 1 {
		t.Errorf("violations: got %d, want 1", got)
	}
}

// TestPresenceOfDeclaredRoutes: a declared route shows who is in its first group without being asked,
// to clients that know the frames.
func TestPresenceOfDeclaredRoutes(t *testing.T) {
	list, err := routefile.Parse([]byte("version: 1\nroutes:\n  - path: /ws/board/{id:id}/\n    who: member\n    groups: [\"board_{id}\", all]\n    presence: states\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{options: gateway.Options{Presence: runRoom(t)}, routes: []consumer.Route{list[0].Route(consumer.DeclaredServices{})}})
	ada, known := n.connectAs("/ws/board/7/", consumer.ProtocolV1, "ada", "acme"), map[string]string{}
	n.connectAs("/ws/board/8/", consumer.ProtocolV1, "alan", "acme")
	awaitPresence(t, ada, known, "ada")
	plain := n.connect("/ws/board/7/", "alan", "acme")
	awaitPresence(t, ada, known, "ada", "alan")
	n.send(plain, `{"type":"presence_set","group":"board_7","state":{"a":1}}`)
	awaitPresence(t, ada, known, "ada", `alan{"a":1}`)
	n.send(plain, `{"type":"presence_set","group":"all","state":{"a":1}}`)
	if f := nextPresence(t, plain); f.text() != "error presence_refused" { // and nothing about presence before
		t.Errorf("got %+v", f)
	}
}
