package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// unavailable is a session store that does not answer.
type unavailable struct{}

func (unavailable) Resolve(context.Context, *http.Request) (session.Identity, error) {
	return session.Identity{}, session.ErrUnavailable
}

// TestRefusedBeforeUpgrade tries everything that must not become a connection. The Connect hook
// must not run, and the answer must be a status and a stable code and nothing else.
func TestRefusedBeforeUpgrade(t *testing.T) {
	var connected calls
	watched := &hooks{calls: &connected}
	n := startNode(t, setup{routes: []consumer.Route{watched.route("/ws/watched/{id:int}/")}})
	const path = "/ws/watched/7/"
	good := n.cookie("ada", "acme")
	past := cookieStore(t, func() time.Time { return time.Now().Add(-2 * time.Hour) }, sessionKey)
	foreign := cookieStore(t, nil, "another key of thirty-two bytes!")

	tests := map[string]struct {
		h      testkit.Handshake // Origin and Cookie are filled in unless they are there
		status int
		code   string
	}{
		"foreign origin":                {headers("Origin", "https://evil.test"), 403, "origin"},
		"null origin":                   {headers("Origin", "null"), 403, "origin"},
		"missing origin":                {headers("Origin"), 403, "origin"},
		"empty origin":                  {headers("Origin", ""), 403, "origin"},
		"several origins":               {headers("Origin", origin, "https://evil.test"), 403, "origin"},
		"the same origin twice":         {headers("Origin", origin, origin), 403, "origin"},
		"list of origins":               {headers("Origin", origin+" https://evil.test"), 403, "origin"},
		"same site, other port":         {headers("Origin", origin+":8443"), 403, "origin"},
		"plain in place of TLS":         {headers("Origin", "http://app.example.com"), 403, "origin"},
		"other scheme":                  {headers("Origin", "wss://app.example.com"), 403, "origin"},
		"parent domain":                 {headers("Origin", "https://example.com"), 403, "origin"},
		"subdomain":                     {headers("Origin", "https://x.app.example.com"), 403, "origin"},
		"our name as a prefix":          {headers("Origin", origin+".evil.test"), 403, "origin"},
		"our name as a suffix":          {headers("Origin", "https://evilapp.example.com"), 403, "origin"},
		"user in the origin":            {headers("Origin", "https://app.example.com@evil.test"), 403, "origin"},
		"path in the origin":            {headers("Origin", origin+"/"), 403, "origin"},
		"trailing dot":                  {headers("Origin", origin+"."), 403, "origin"},
		"the gateway's own host":        {headers("Origin", "http://gateway.test"), 403, "origin"},
		"no cookie":                     {headers("Cookie"), 401, "unauthenticated"},
		"another cookie":                {headers("Cookie", "sessionid=abc"), 401, "unauthenticated"},
		"empty cookie":                  {headers("Cookie", session.DefaultName+"="), 401, "unauthenticated"},
		"tampered cookie":               {headers("Cookie", tamper(good)), 401, "unauthenticated"},
		"cut cookie":                    {headers("Cookie", good[:len(good)-8]), 401, "unauthenticated"},
		"expired cookie":                {headers("Cookie", mint(t, past, "ada", "acme", time.Hour)), 401, "unauthenticated"},
		"cookie of another key":         {headers("Cookie", mint(t, foreign, "ada", "acme", time.Hour)), 401, "unauthenticated"},
		"first of two cookies is wrong": {headers("Cookie", session.DefaultName+"=x; "+good), 401, "unauthenticated"},
		"first cookie header is wrong":  {headers("Cookie", session.DefaultName+"=x", good), 401, "unauthenticated"},
		"suspended member":              {headers("Cookie", n.cookie("sam", "acme")), 403, "forbidden"},
		"suspended organization":        {headers("Cookie", n.cookie("ian", "initech")), 403, "forbidden"},
		"unknown organization":          {headers("Cookie", n.cookie("ada", "nowhere")), 403, "forbidden"},
		"not a member":                  {headers("Cookie", n.cookie("grace", "acme")), 403, "forbidden"},
		"no organization":               {headers("Cookie", n.cookie("ada", "")), 403, "forbidden"},
		"directory down":                {headers("Cookie", n.cookie("ada", "down")), 503, "overloaded"},
		"unknown path":                  {testkit.Handshake{Path: "/ws/nothing"}, 404, "unknown_path"},
		"root":                          {testkit.Handshake{Path: "/"}, 404, "unknown_path"},
		"path in capitals":              {testkit.Handshake{Path: "/WS/watched/7/"}, 404, "unknown_path"},
		"without the slash":             {testkit.Handshake{Path: "/ws/watched/7"}, 404, "unknown_path"},
		"one slash too many":            {testkit.Handshake{Path: "/ws/watched/7//"}, 404, "unknown_path"},
		"double slash in front":         {testkit.Handshake{Path: "//ws/watched/7/"}, 404, "unknown_path"},
		"dots":                          {testkit.Handshake{Path: "/ws/x/../watched/7/"}, 404, "unknown_path"},
		"number with a sign":            {testkit.Handshake{Path: "/ws/watched/+7/"}, 404, "unknown_path"},
		"number with a zero in front":   {testkit.Handshake{Path: "/ws/watched/07/"}, 404, "unknown_path"},
		"number too large":              {testkit.Handshake{Path: "/ws/watched/9223372036854775808/"}, 404, "unknown_path"},
		"no number":                     {testkit.Handshake{Path: "/ws/watched/%EF%BC%97/"}, 404, "unknown_path"},
		"slash in the number":           {testkit.Handshake{Path: "/ws/watched/7%2F8/"}, 404, "unknown_path"},
		"longest query and one more":    {testkit.Handshake{Path: path + "?" + strings.Repeat("q", 2049)}, 400, "query_too_long"},
		"HTTP/1.0":                      {testkit.Handshake{Proto: "HTTP/1.0"}, 400, "no_handshake"},
		"POST":                          {testkit.Handshake{Method: "POST"}, 400, "no_handshake"},
		"HEAD":                          {testkit.Handshake{Method: "HEAD"}, 400, ""},
		"no Upgrade":                    {headers("Upgrade"), 400, "no_handshake"},
		"Upgrade to something else":     {headers("Upgrade", "h2c"), 400, "no_handshake"},
		"no Connection":                 {headers("Connection"), 400, "no_handshake"},
		"Connection: close":             {headers("Connection", "close"), 400, "no_handshake"},
		"no key":                        {headers("Sec-Websocket-Key"), 400, "no_handshake"},
		"short key":                     {headers("Sec-Websocket-Key", "c2hvcnQ="), 400, "no_handshake"},
		"key that is not base64":        {headers("Sec-Websocket-Key", "!!!!!!!!!!!!!!!!!!!!!!=="), 400, "no_handshake"},
		"two keys":                      {headers("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="), 400, "no_handshake"},
		"no version":                    {headers("Sec-Websocket-Version"), 400, "no_handshake"},
		"version 8":                     {headers("Sec-Websocket-Version", "8"), 400, "no_handshake"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := test.h
			if h.Path == "" {
				h.Path = path
			}
			h.Header = with(h.Header, "Origin", origin)
			h.Header = with(h.Header, "Cookie", good)
			c, answer := testkit.Try(t, n.dial, h)
			if c != nil {
				t.Fatal("got an upgrade")
			}
			want := ""
			if test.code != "" {
				want = `{"code":"` + test.code + `"}` + "\n"
			}
			if answer.Status != test.status || answer.Body != want {
				t.Errorf("got %d %q, want %d %q", answer.Status, answer.Body, test.status, want)
			}
			if got, want := answer.Header.Get("Retry-After") != "", test.status == http.StatusServiceUnavailable; got != want {
				t.Errorf("has Retry-After: got %t, want %t", got, want)
			}
			if got := answer.Header.Get("Sec-Websocket-Version"); test.code == "no_handshake" && got != "13" {
				t.Errorf("Sec-WebSocket-Version: got %q, want 13", got)
			}
		})
	}
	if got := connected.all(); got != "" {
		t.Errorf("hooks ran: %s", got)
	}
	n.expectEmpty()
	// The node is not harmed, and what was sent is what makes the difference.
	c := n.connect(path, "ada", "acme")
	testkit.Eventually(t, "Connect", func() bool { return connected.all() == "connect" })
	_ = c.Close()
}

// TestEncodedPathsAreNotServed: a proxy that passes on some paths and refuses others reads them as they are
// sent. What it does not take for a path of ours must not become one behind it.
func TestEncodedPathsAreNotServed(t *testing.T) {
	var connected calls
	n := startNode(t, setup{routes: []consumer.Route{(&hooks{calls: &connected}).route("/ws/watched/{id:int}/")}})
	for _, path := range []string{
		"/ws%2fevents", "/ws%2Fevents", "/%77s/events", "/ws/event%73", "/ws/./events", "/ws/%2e/events", "/ws/x/%2e%2e/events", "/ws//events", "/ws/events%2f", "/ws/events/",
		"/ws%5cevents", "/ws\\events", "/ws/events;x", "/ws/events%3fx", "/ws/events%23", "/ws/watched/%37/", "/ws/watched/7%2f", "http://gateway.test/ws%2fevents",
	} {
		n.expectRefused(t, n.handshake(path, "ada", "acme", nil), 404, "unknown_path", false)
	}
	if got := connected.all(); got != "" {
		t.Errorf("hooks ran: %s", got)
	}
	n.connect("/ws/events", "ada", "acme")
	n.connect("http://gateway.test/ws/watched/7/", "ada", "acme")
}

func headers(name string, values ...string) testkit.Handshake {
	return testkit.Handshake{Header: http.Header{name: values}}
}

// with returns h with a value for name unless it says something of it, be it nothing.
func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	if _, ok := h[name]; !ok {
		h[name] = []string{value}
	}
	return h
}

// tamper changes one character in the middle of a cookie.
func tamper(cookie string) string {
	b := []byte(cookie)
	i := len(b) / 2
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// TestForeignLooksLikeNothing compares whole answers: who asks for an organization that does not
// exist, is suspended, or is somebody else's, learns that it was refused and nothing more.
func TestForeignLooksLikeNothing(t *testing.T) {
	n := startNode(t, setup{})
	raw := func(user, org string) string {
		conn, err := n.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		h := n.handshake("/ws/events", user, org, nil)
		h.Header["Connection"] = []string{"Upgrade, close"}
		if _, err := conn.Write(h.Bytes()); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
		var lines []string
		for s := bufio.NewScanner(conn); s.Scan(); {
			if !strings.HasPrefix(s.Text(), "Date:") {
				lines = append(lines, s.Text())
			}
		}
		return strings.Join(lines, "\n")
	}
	want := raw("ada", "nowhere")
	if !strings.Contains(want, `{"code":"forbidden"}`) {
		t.Fatalf("got %s", want)
	}
	for _, who := range [][2]string{{"ian", "initech"}, {"grace", "acme"}, {"sam", "acme"}, {"nobody", "acme"}, {"ada", ""}} {
		if got := raw(who[0], who[1]); got != want {
			t.Errorf("%s of %s: got\n%s\nwant, as for an unknown organization,\n%s", who[0], who[1], got, want)
		}
	}
}

func (n *node) expectRefused(tb testing.TB, h testkit.Handshake, status int, code string, retry bool) {
	tb.Helper()
	c, answer := testkit.Try(tb, n.dial, h)
	if c != nil {
		tb.Fatal("got an upgrade")
	}
	if want := `{"code":"` + code + `"}` + "\n"; answer.Status != status || answer.Body != want {
		tb.Errorf("got %d %q, want %d %q", answer.Status, answer.Body, status, want)
	}
	if got := answer.Header.Get("Retry-After"); (got != "") != retry {
		tb.Errorf("Retry-After: got %q, want one: %t", got, retry)
	}
}

// TestConnectRefuses: what the Connect hook returns becomes a status, and nothing of it stays.
func TestConnectRefuses(t *testing.T) {
	tests := map[string]struct {
		err    error
		status int
		code   string
		retry  bool
	}{
		"forbidden":     {consumer.ErrForbidden, 403, "forbidden", false},
		"not found":     {consumer.ErrNotFound, 404, "not_found", false},
		"bad group":     {event.ErrInvalidGroup, 404, "not_found", false},
		"our own fault": {errDown, 500, "internal", false},
		"deadline":      {context.DeadlineExceeded, 503, "overloaded", true},
		"panic":         {nil, 500, "internal", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var seen calls
			h := &hooks{calls: &seen, connect: func(ctx context.Context, c consumer.Conn) error {
				if err := joining("all", "room.1")(ctx, c); err != nil {
					return err
				}
				if test.err == nil {
					panic("secret text")
				}
				return test.err
			}}
			n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/no")}})
			n.expectRefused(t, n.handshake("/ws/no", "ada", "acme", nil), test.status, test.code, test.retry)
			if got := seen.all(); got != "connect" {
				t.Errorf("hooks: got %q, want connect alone", got)
			}
			n.expectEmpty()
		})
	}
}

// TestDataBeforeAnswer: RFC 6455, section 4.1, lets a client send nothing before it has the answer.
// What comes too early ends the connection, and the hooks stay paired.
func TestDataBeforeAnswer(t *testing.T) {
	var seen calls
	entered := make(chan struct{})
	h := &hooks{calls: &seen, connect: func(ctx context.Context, c consumer.Conn) error {
		close(entered)
		return joining("all")(ctx, c)
	}}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	hs := n.handshake("/ws/h", "ada", "acme", nil)
	hs.Tail = testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"ping"}`)}.Bytes()
	c, answer, err := testkit.Open(t.Context(), n.dial, hs)
	if c != nil || answer.Status == http.StatusSwitchingProtocols {
		t.Errorf("got an upgrade: %d %v", answer.Status, err)
		_ = c.Close()
	}
	<-entered
	testkit.Eventually(t, "hooks are paired", func() bool { return seen.all() == "connect disconnect" })
	n.expectEmpty()
}

// TestExplain: on such a route refusals upgrade and tell the page why; a foreign page never learns.
func TestExplain(t *testing.T) {
	var seen calls
	h := &hooks{calls: &seen}
	route := h.route("/ws/explain")
	route.Explain = true
	n := startNode(t, setup{routes: []consumer.Route{route}})
	past := cookieStore(t, func() time.Time { return time.Now().Add(-2 * time.Hour) }, sessionKey)
	tests := map[string]struct {
		header http.Header
		code   int
	}{
		"no cookie":       {http.Header{"Cookie": nil}, 4401},
		"expired":         {http.Header{"Cookie": {mint(t, past, "ada", "acme", time.Hour)}}, 4401},
		"not a member":    {http.Header{"Cookie": {n.cookie("grace", "acme")}}, 4403},
		"unknown":         {http.Header{"Cookie": {n.cookie("ada", "nowhere")}}, 4403},
		"no organization": {http.Header{"Cookie": {n.cookie("ada", "")}}, 4403},
		"directory down":  {http.Header{"Cookie": {n.cookie("ada", "down")}}, 1013},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := testkit.Connect(t, n.dial, n.handshake("/ws/explain", "ada", "acme", test.header))
			if frames, _ := c.ExpectClose(t, test.code); len(frames) > 0 {
				t.Errorf("got frames %q before the close", frames)
			}
		})
	}
	for _, evil := range [][]string{{"https://evil.test"}, {"null"}, nil, {origin, "https://evil.test"}} {
		n.expectRefused(t, n.handshake("/ws/explain", "ada", "acme", http.Header{"Origin": evil, "Cookie": nil}), 403, "origin", false)
	}
	if got := seen.all(); got != "" {
		t.Errorf("hooks ran: %s", got)
	}
	n.expectConnections(0) // the page has seen the end a moment before
	n.expectMetric(0, "orgcast_connections")
	n.expectEmpty()
}

// mute is a bus that confirms no subscription.
type mute struct{ bus }

func (mute) Subscribe(context.Context, event.Group) error { return pubsub.ErrUnconfirmed }

// TestRefusedByHook: whatever error Connect returns becomes an answer before the upgrade.
func TestRefusedByHook(t *testing.T) {
	join := func(ctx context.Context, c consumer.Conn) error { return c.Join(ctx, "all") }
	give := func(err error) func(context.Context, consumer.Conn) error {
		return func(context.Context, consumer.Conn) error { return err }
	}
	for name, test := range map[string]struct {
		connect func(context.Context, consumer.Conn) error
		status  int
		code    string
		retry   bool
	}{
		"not allowed":              {connect: give(consumer.ErrForbidden), status: 403, code: "forbidden"},
		"not found":                {connect: give(consumer.ErrNotFound), status: 404, code: "not_found"},
		"subscription unconfirmed": {connect: join, status: 503, code: "overloaded", retry: true},
		"cause of a connection":    {connect: give(consumer.ErrTextRequired), status: 500, code: "internal"},
		"our fault":                {connect: give(errors.New("secret")), status: 500, code: "internal"},
		"ended by itself": {connect: func(_ context.Context, c consumer.Conn) error {
			c.End(gateway.ErrTooSlow)
			return nil
		}, status: 500, code: "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hooks{connect: test.connect}
			n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/x")}, bus: mute{pubsub.NewMemory()}})
			n.expectRefused(t, n.handshake("/ws/x", "ada", "acme", nil), test.status, test.code, test.retry)
		})
	}
}
