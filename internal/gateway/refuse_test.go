package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
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

// TestParseOrigins: what is accepted is matched as browsers send it, and what never could be is an error.
func TestParseOrigins(t *testing.T) {
	pages := map[string]string{
		"https://app.example.com":          "https://app.example.com",
		" HTTPS://App.Example.COM ":        "https://app.example.com",
		"https://app.example.com:443":      "https://app.example.com",
		"http://app.example.com:80":        "http://app.example.com",
		"http://app.example.com:443":       "http://app.example.com:443",
		"https://app.example.com:08443":    "https://app.example.com:8443",
		"https://*.example.com:443":        "https://a.b.example.com",
		"https://*.example.com:8443":       "https://a.example.com:8443",
		"http://[::1]:3000":                "http://[::1]:3000",
		"http://[0:0:0:0:0:0:0:1]":         "http://[::1]",
		"https://[2001:DB8::A]:443":        "https://[2001:db8::a]",
		"http://192.0.2.1:8080":            "http://192.0.2.1:8080",
		"capacitor://localhost":            "capacitor://localhost",
		"ionic://localhost":                "ionic://localhost",
		"chrome-extension://abcdefghijklm": "chrome-extension://abcdefghijklm",
		"http://my_host.test":              "http://my_host.test",
	}
	for text, sent := range pages {
		o, err := gateway.ParseOrigins([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !o.Allows(&http.Request{Header: http.Header{"Origin": {sent}}}) {
			t.Errorf("%s: the origin %s is refused", text, sent)
		}
	}
	// The library compares a second time.
	all, err := gateway.ParseOrigins(slices.Collect(maps.Keys(pages)))
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{options: gateway.Options{Origins: all}})
	for text, sent := range pages {
		if c, answer := testkit.Try(t, n.dial, n.handshake("/ws/events", "ada", "acme", http.Header{"Origin": {sent}})); c == nil {
			t.Errorf("%s: the origin %s got %d", text, sent, answer.Status)
		}
	}
	if _, answer := testkit.Try(t, n.dial, n.handshake("/ws/events", "ada", "acme", http.Header{"Origin": {"https://evil.test"}})); answer.Status != http.StatusForbidden {
		t.Errorf("a foreign origin: got %d", answer.Status)
	}
	for text, want := range map[string]string{
		"*":                           "any page",
		"null":                        "cannot be allowed",
		"app.example.com":             "must be an origin",
		"https://":                    "must be an origin",
		"://x":                        "must be an origin",
		"1http://x":                   "must be an origin",
		"https://app.example.com/":    "must end after the host or port",
		"https://app.example.com?x":   "must end after the host or port",
		"https://ada@app.example.com": "must end after the host or port",
		"wss://app.example.com":       "write https://",
		"ws://app.example.com":        "write http://",
		"file://x":                    "never sent",
		"https://app.example.com:":    "port",
		"https://app.example.com:0":   "port",
		"https://app.example.com:x":   "port",
		"https://x:65536":             "port",
		"http://::1":                  "brackets",
		"http://[::1":                 "brackets",
		"http://[::1%25lo]":           "IPv6",
		"http://[127.0.0.1]":          "IPv6",
		"http://bücher.example":       "xn--",
		"https://*":                   "host",
		"https://*example.com":        "host",
		"https://a.*.example.com":     "host",
		"https://a*.example.com":      "host",
		"https://exa mple.com":        "host",
		"https://%61.example.com":     "host",
	} {
		if _, err := gateway.ParseOrigins([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %q", text, err, want)
		}
	}
}

func TestAdmitted(t *testing.T) {
	origins, err := gateway.ParseOrigins([]string{origin, "https://*.example.org", "http://localhost:8080", gateway.OriginMissing})
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{options: gateway.Options{Origins: origins}})
	cookie := n.cookie("ada", "acme")
	for name, h := range map[string]testkit.Handshake{
		"as listed":                            {},
		"in capitals":                          headers("Origin", "HTTPS://App.Example.COM"),
		"with a port":                          headers("Origin", "http://localhost:8080"),
		"below a wildcard":                     headers("Origin", "https://a.b.example.org"),
		"no origin where none stands":          headers("Origin"),
		"first of two cookies counts":          headers("Cookie", cookie+"; "+session.DefaultName+"=x"),
		"first cookie header counts":           headers("Cookie", cookie, session.DefaultName+"=x"),
		"among other cookies":                  headers("Cookie", "a=b; "+cookie+"; c=d"),
		"tokens in lists":                      {Header: http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}}},
		"with the longest query":               {Path: "/ws/events?" + strings.Repeat("q", 2048)},
		"with a query":                         {Path: "/ws/events?organization_id=globex"},
		"no organization where none is needed": {Path: "/ws/connection_test/", Header: http.Header{"Cookie": {n.cookie("ada", "")}}},
		"member of a second organization":      headers("Cookie", n.cookie("ada", "globex")),
	} {
		t.Run(name, func(t *testing.T) {
			if h.Path == "" {
				h.Path = "/ws/events"
			}
			h.Header = with(with(h.Header, "Origin", origin), "Cookie", cookie)
			c := testkit.Connect(t, n.dial, h)
			_ = c.SendText(`{"type":"ping"}`)
			for {
				text, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
				if text == `{"type":"pong"}` {
					return
				}
			}
		})
	}
	for _, evil := range []string{"https://example.org", "https://.example.org", "https://evilexample.org", "http://a.example.org", "https://a.example.org:8443", "https://a.example.org.evil.test", "https://evil.test/.example.org", "https://evil.test?.example.org", "https://evil.test:1.example.org/", "null", "none"} {
		if c, answer := testkit.Try(t, n.dial, testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {evil}, "Cookie": {cookie}}}); c != nil || answer.Status != http.StatusForbidden {
			t.Errorf("origin %s: got %d, want 403", evil, answer.Status)
		}
	}
}

// TestNoOrganizationNoGroups: such a connection reaches no group at all.
func TestNoOrganizationNoGroups(t *testing.T) {
	result := make(chan error, 1)
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		result <- c.Join(ctx, "all")
		return nil
	}}
	route := h.route("/ws/free")
	route.WithoutOrganization = true
	n := startNode(t, setup{routes: []consumer.Route{route}})
	n.connect("/ws/free", "ada", "")
	if err := <-result; err == nil {
		t.Error("Join: got nil, want an error")
	}
	if got := n.hub.Groups(); got != 0 {
		t.Errorf("groups: got %d, want 0", got)
	}
}

func TestRefusedByState(t *testing.T) { eachWay(t, refusedByStateOn) }

func refusedByStateOn(t *testing.T, on way) {
	t.Helper()
	t.Run("draining", func(t *testing.T) {
		n := startNode(t, on.setup())
		n.gateway.StopAdmission()
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "draining", true)
		n.expectRefused(t, n.handshake("/ws/nothing", "ada", "acme", nil), 503, "draining", true)
	})
	t.Run("node full", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{MaxConnections: 1}})
		c := n.connect("/ws/events", "ada", "acme")
		n.expectRefused(t, n.handshake("/ws/events", "grace", "globex", nil), 503, "overloaded", true)
		n.leave(c, 0)
		n.connectSoon("grace", "globex")
	})
	t.Run("user has too many", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{MaxPerUser: 2}})
		c := n.connect("/ws/events", "ada", "acme")
		n.connect("/ws/events", "ada", "acme")
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 429, "too_many_connections", true)
		n.connect("/ws/events", "alan", "acme")
		n.connect("/ws/events", "ada", "globex") // another ada, as far as acme is concerned
		n.leave(c, 3)
		n.connectSoon("ada", "acme")
	})
	t.Run("organization has too many", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{Quota: &capped{limit: 2}}})
		n.connect("/ws/events", "ada", "acme")
		c := n.connect("/ws/events", "alan", "acme")
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 429, "too_many_connections", true)
		n.connect("/ws/events", "grace", "globex")
		n.leave(c, 2)
		n.connectSoon("ada", "acme")
	})
	t.Run("users without an organization count as one", func(t *testing.T) {
		places := &capped{limit: 2}
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{Quota: places}})
		n.connect("/ws/connection_test/", "ada", "")
		c := n.connect("/ws/connection_test/", "grace", "")
		n.expectRefused(t, n.handshake("/ws/connection_test/", "alan", "", nil), 429, "too_many_connections", true)
		n.connect("/ws/events", "ada", "acme")
		n.leave(c, 2)
		testkit.Eventually(t, "its place is free", func() bool { return places.total() == 2 })
		n.connect("/ws/connection_test/", "alan", "")
	})
	t.Run("quota cannot be asked", func(t *testing.T) {
		places := &capped{limit: 1, err: quota.ErrUnavailable}
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{Quota: places, MaxPerUser: 1}})
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "overloaded", true)
		places.err = nil
		n.connect("/ws/events", "ada", "acme") // the first one does not count
	})
	t.Run("handshakes come too fast", func(t *testing.T) {
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{HandshakesPerSecond: 0.001}})
		n.connect("/ws/events", "ada", "acme")
		n.expectRefused(t, n.handshake("/ws/nothing", "ada", "acme", nil), 404, "unknown_path", false)
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "handshake_rate", true)
		n.expectRefused(t, n.handshake("/ws/events", "grace", "globex", nil), 503, "handshake_rate", true)
	})
	t.Run("refused ones do not count", func(t *testing.T) {
		h := &hooks{connect: func(context.Context, consumer.Conn) error { return consumer.ErrForbidden }}
		n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{MaxPerUser: 1}, routes: []consumer.Route{h.route("/ws/no")}})
		for range 3 {
			n.expectRefused(t, n.handshake("/ws/no", "ada", "acme", nil), 403, "forbidden", false)
			n.expectRefused(t, n.handshake("/ws/nothing", "ada", "acme", nil), 404, "unknown_path", false)
		}
		n.connect("/ws/events", "ada", "acme")
	})
	t.Run("session store down", func(t *testing.T) {
		if on.store.sealed { // of which nothing can be down
			n := startNode(t, setup{over: on.over, options: gateway.Options{Sessions: unavailable{}}})
			n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "overloaded", true)
			return
		}
		n := startNode(t, on.setup())
		h := n.handshake("/ws/events", "ada", "acme", nil)
		n.vault.stop() // where there are two stores, the other one works
		n.expectRefused(t, h, 503, "overloaded", true)
		n.vault.resume()
		n.connectSoon("ada", "acme")
	})
}

// capped is a quota with a limit for every organization, on this node alone.
type capped struct {
	limit int
	err   error

	mu    sync.Mutex
	taken map[orgctx.ID]int
}

func (c *capped) Take(_ context.Context, org orgctx.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.taken[org] >= c.limit {
		return quota.ErrFull
	}
	if c.taken == nil {
		c.taken = make(map[orgctx.ID]int)
	}
	c.taken[org]++
	return nil
}

func (c *capped) Give(org orgctx.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken[org]--; c.taken[org] == 0 {
		delete(c.taken, org)
	}
}

func (c *capped) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.taken {
		n += one
	}
	return n
}

// leave closes a connection and waits until the node has noticed, so that so many are left.
func (n *node) leave(c *testkit.Client, left int) {
	n.tb.Helper()
	_ = c.Close()
	n.expectConnections(left)
}

// connectSoon connects as soon as the node lets it: a connection's place becomes free a moment
// after the connection is forgotten.
func (n *node) connectSoon(user, org string) {
	n.tb.Helper()
	h := n.handshake("/ws/events", user, org, nil)
	testkit.Eventually(n.tb, "there is room", func() bool {
		c, _ := testkit.Try(n.tb, n.dial, h)
		return c != nil
	})
}

func (n *node) expectConnections(want int) {
	n.tb.Helper()
	testkit.Eventually(n.tb, fmt.Sprintf("%d connections", want), func() bool { return n.gateway.Connections() == want })
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

// TestRealStores goes through sessions and memberships in a real Redis.
func TestRealStores(t *testing.T) {
	server := redistest.StartServer(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	keys := mustKeyspace(t)
	members, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	store, err := session.NewRedisStore(client, keys, session.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, org := range []string{"acme", "globex", "initech"} {
		status := directory.Active
		if org == "initech" {
			status = directory.Suspended
		}
		if err := client.HSet(t.Context(), keys.Organization(mustOrg(t, org)), "status", string(status)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range [][3]string{{"acme", "ada", "active"}, {"acme", "sam", "suspended"}, {"initech", "ian", "active"}} {
		if err := client.HSet(t.Context(), keys.Member(mustOrg(t, m[0]), m[1]), "status", m[2], "role", "admin").Err(); err != nil {
			t.Fatal(err)
		}
	}
	n := startNode(t, setup{options: gateway.Options{Sessions: store, Membership: members}})
	handshake := func(user, org string) testkit.Handshake {
		return n.handshake("/ws/events", "ada", "acme", http.Header{"Cookie": {mint(t, store, user, org, time.Hour)}})
	}
	for _, who := range [][2]string{{"sam", "acme"}, {"ian", "initech"}, {"ada", "nowhere"}, {"ada", "globex"}, {"ada", ""}} {
		n.expectRefused(t, handshake(who[0], who[1]), 403, "forbidden", false)
	}
	n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 401, "unauthenticated", false) // a cookie of the other store
	good := handshake("ada", "acme")
	c := testkit.Connect(t, n.dial, good)
	_ = c.SendText(`{"type":"subscribe","group":"role.admin"}`)
	c.Expect(t, `{"type":"subscribed","group":"role.admin"}`)
	server.Stop()
	n.expectRefused(t, good, 503, "overloaded", true)
	_ = c.SendText(`{"type":"ping"}`) // who is connected stays so
	c.Expect(t, `{"type":"pong"}`)
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
