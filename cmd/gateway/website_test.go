package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// website is a web application that the gateway asks which user a cookie belongs to.
type website struct {
	*testkit.Website

	URL string
}

func startWebsite(tb testing.TB) *website {
	tb.Helper()
	w := &website{Website: testkit.NewWebsite(testPublishKey)}
	server := httptest.NewServer(w)
	tb.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

// login makes a session and returns the handshake of its browser.
func (w *website) login(cookie, user, org, role string) testkit.Handshake {
	w.Says(cookie, testkit.IdentityAnswer(user, org, role, time.Now().Add(time.Hour)))
	return testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {testOrigin}, "Cookie": {"sessionid=" + cookie}}}
}

// settings returns those of a gateway that asks the site and re-checks quickly.
func (w *website) settings(more environment) environment {
	env := environment{
		"ORGCAST_SESSION_STORE": "http", "ORGCAST_SESSION_COOKIE": "sessionid", "ORGCAST_SESSION_URL": w.URL + "/orgcast/identity",
		"ORGCAST_SESSION_URL_KEY": testPublishKey, "ORGCAST_SESSION_KEYS": "", "ORGCAST_DIRECTORY": "",
		"ORGCAST_LEASE_PERIOD": "200ms", "ORGCAST_LEASE_DEADLINE": "1h",
	}
	maps.Copy(env, more)
	return env
}

// TestWebsiteDecides: with --session-store=http the site's answers open and end connections, and name the role.
func TestWebsiteDecides(t *testing.T) {
	w := startWebsite(t)
	s := startServe(t, redistest.Start(t), w.settings(environment{"ORGCAST_EVENTS_POLICY": "admins=role:admin, *=member"}))
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	for name, test := range map[string]struct {
		says string
		code int
		why  string
	}{
		"logged out":      {`{"code":"none"}`, 4401, `{"retry":"once"}`},
		"shut out":        {`{"code":"forbidden"}`, 4403, ""},
		"switched":        {`{"user_id":"ada","active_organization_id":"globex","role":"admin","expires_at":4102444800}`, 4409, ""},
		"no organization": {`{"code":"no_organization"}`, 4409, ""},
		"somebody else":   {`{"user_id":"bob","active_organization_id":"acme","role":"admin","expires_at":4102444800}`, 4401, ""},
		"another role":    {`{"user_id":"ada","active_organization_id":"acme","role":"viewer","expires_at":4102444800}`, 4409, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cookie := strings.ReplaceAll(name, " ", "-")
			c := testkit.Connect(t, dial, w.login(cookie, "ada", "acme", "admin"))
			if got := say(t, c, `{"type":"subscribe","group":"admins"}`); !testkit.SameJSON(got, `{"type":"subscribed","group":"admins"}`) {
				t.Fatalf("an admin got %s", got)
			}
			w.Says(cookie, test.says)
			if _, why := c.ExpectClose(t, test.code); test.why != "" && why != test.why {
				t.Errorf("closed with %q, want %q", why, test.why)
			}
		})
	}
	viewer := testkit.Connect(t, dial, w.login("v", "eve", "acme", "viewer"))
	if got := say(t, viewer, `{"type":"subscribe","group":"admins"}`); code(got) != "unknown_group" {
		t.Errorf("a viewer got %s, want unknown_group", got)
	}
	for cookie, want := range map[string]int{"unknown": 401, "logged-out": 401, "shut-out": 403, "no-organization": 403} {
		if _, answer := testkit.Try(t, dial, testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {testOrigin}, "Cookie": {"sessionid=" + cookie}}}); answer.Status != want {
			t.Errorf("handshake with %s: got %d %s, want %d", cookie, answer.Status, answer.Body, want)
		}
	}
	if log := s.log.String(); strings.Contains(log, "logged-out") || strings.Contains(log, testPublishKey) {
		t.Errorf("the log shows a cookie or the key:\n%s", log)
	}
	if _, metrics := s.ask("GET", "/metrics", ""); !strings.Contains(metrics, `orgcast_outgoing_calls_total{purpose="session",result="answered"}`) || !strings.Contains(metrics, "orgcast_session_cookies_asked_total") {
		t.Errorf("metrics do not show the questions:\n%s", metrics)
	}
}

// TestWebsiteAway: while the site does not answer, nobody is logged out and nobody comes in; when it is back, all is
// well by itself. A key that changes is read again on SIGHUP.
func TestWebsiteAway(t *testing.T) {
	t.Parallel()
	w := startWebsite(t)
	keyFile := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(testPublishKey)
	s := startServe(t, redistest.Start(t), w.settings(environment{"ORGCAST_SESSION_URL_KEY": "", "ORGCAST_SESSION_URL_KEY_FILE": keyFile}))
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	ada := w.login("a", "ada", "acme", "")
	c := testkit.Connect(t, dial, ada)
	for name, broken := range map[string]func(){
		"away":        func() { w.SetAway(true) },
		"another key": func() { w.SetKey(strings.Repeat("n", 32)) },
	} {
		broken()
		testkit.Eventually(t, name+": not ready", func() bool { status, _ := s.ask("GET", "/readyz", ""); return status == 503 })
		if _, answer := testkit.Try(t, dial, ada); answer.Status != 503 || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: got %d %s, want 503 with Retry-After", name, answer.Status, answer.Body)
		}
		_ = c.SendText(`{"type":"ping"}`)
		c.Expect(t, `{"type":"pong"}`)
		if name == "away" {
			w.SetAway(false)
		} else {
			write(strings.Repeat("n", 32))
			s.hangups <- os.Interrupt // any signal of that channel is a hangup
		}
		s.expectReady()
		testkit.Connect(t, dial, ada)
	}
}

// TestWebsiteSilentTooLong: nobody stays beyond the deadline.
func TestWebsiteSilentTooLong(t *testing.T) {
	w := startWebsite(t)
	s := startServe(t, redistest.Start(t), w.settings(environment{"ORGCAST_LEASE_DEADLINE": "1s"}))
	s.expectReady()
	c := testkit.Connect(t, testkit.DialTCP(s.public), w.login("a", "ada", "acme", ""))
	w.SetAway(true)
	c.ExpectClose(t, 1013)
}

// TestWebsiteRevocation: what a back end announces counts at once, under the id that is derived from the cookie.
func TestWebsiteRevocation(t *testing.T) {
	w := startWebsite(t)
	s := startServe(t, redistest.Start(t), w.settings(environment{"ORGCAST_LEASE_PERIOD": "1h", "ORGCAST_LEASE_DEADLINE": "2h"}))
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	handshake := w.login("a", "ada", "acme", "")
	c := testkit.Connect(t, dial, handshake)
	if out, errOut, err := execute(t, s.env, "", "revoke", "session", "--", s.sessionID(handshake)); err != nil {
		t.Fatalf("%s %s %v", out, errOut, err)
	}
	c.ExpectClose(t, 4401)
	if _, answer := testkit.Try(t, dial, handshake); answer.Status != 401 {
		t.Errorf("got %d, want 401 although the site still knows the session", answer.Status)
	}
	// The site keeps the members: the gateway can announce that one is gone, and must not say more.
	if out, _, err := execute(t, s.env, "", "revoke", "member", "acme", "ada"); err != nil || !strings.HasPrefix(out, "announced only") {
		t.Errorf("got %q, %v, want announced only", out, err)
	}
}

// TestSeveralStores: the first store whose cookie is there decides alone. What it refuses, or cannot say, no other
// store is asked about.
func TestSeveralStores(t *testing.T) {
	w := startWebsite(t)
	env := w.settings(environment{"ORGCAST_SESSION_STORE": "http,cookie", "ORGCAST_SESSION_COOKIE": "sessionid, orgcast_session", "ORGCAST_SESSION_KEYS": testKey})
	s := startServe(t, redistest.Start(t), env)
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	old := s.mint("bob", "globex").Header.Get("Cookie") // of the gateway's own cookie
	if !strings.HasPrefix(old, "orgcast_session=") {
		t.Fatalf("minted %s", old)
	}
	organization := func(h testkit.Handshake) (int, string) {
		h.Header.Set("Sec-WebSocket-Protocol", "orgcast.v1")
		c, answer := testkit.Try(t, dial, h)
		if c == nil {
			return answer.Status, ""
		}
		text, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		var welcome struct {
			Organization string `json:"organization_id"`
		}
		_ = json.Unmarshal([]byte(text), &welcome)
		return answer.Status, welcome.Organization
	}
	with := func(cookie string) testkit.Handshake {
		h := w.login("a", "ada", "acme", "")
		h.Header.Set("Cookie", cookie)
		return h
	}
	for name, test := range map[string]struct {
		cookie string
		away   bool
		status int
		org    string
	}{
		"site's":              {cookie: "sessionid=a", status: 101, org: "acme"},
		"own":                 {cookie: old, status: 101, org: "globex"},
		"both":                {cookie: "sessionid=a; " + old, status: 101, org: "acme"},
		"both, own first":     {cookie: old + "; sessionid=a", status: 101, org: "acme"},
		"site's is refused":   {cookie: "sessionid=x; " + old, status: 401},
		"site's is no cookie": {cookie: "sessionid=\xff; " + old, status: 401},
		"site's is empty":     {cookie: "sessionid=; " + old, status: 101, org: "globex"},
		"site is away":        {cookie: "sessionid=a; " + old, away: true, status: 503},
		"site is away, own":   {cookie: old, away: true, status: 101, org: "globex"},
		"neither":             {cookie: "a=b", status: 401},
	} {
		t.Run(name, func(t *testing.T) {
			w.SetAway(test.away)
			defer w.SetAway(false)
			if status, org := organization(with(test.cookie)); status != test.status || org != test.org {
				t.Errorf("got %d %q, want %d %q", status, org, test.status, test.org)
			}
		})
	}
	site, own := testkit.Connect(t, dial, with("sessionid=a; "+old)), testkit.Connect(t, dial, with(old))
	w.Says("a", "")
	site.ExpectClose(t, 4401)
	_ = own.SendText(`{"type":"ping"}`)
	own.Expect(t, `{"type":"pong"}`)
}

// TestSessionSettings: what does not fit together is told before anything is served.
func TestSessionSettings(t *testing.T) {
	base := environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey}
	for name, test := range map[string]struct {
		env  environment
		want string
	}{
		"no URL":             {environment{"ORGCAST_SESSION_STORE": "http", "ORGCAST_SESSION_URL_KEY": testKey}, "--session-url: required"},
		"no key":             {environment{"ORGCAST_SESSION_STORE": "http", "ORGCAST_SESSION_URL": "http://127.0.0.1:1"}, "--session-url-key: required"},
		"short key":          {environment{"ORGCAST_SESSION_URL_KEY": "x"}, "--session-url-key: must have at least 32 characters"},
		"not a URL":          {environment{"ORGCAST_SESSION_URL": "ftp://x"}, "--session-url: must begin with http://"},
		"password":           {environment{"ORGCAST_SESSION_URL": "http://u:p@x"}, "--session-url: must not contain"},
		"unknown store":      {environment{"ORGCAST_SESSION_STORE": "memcached"}, "--session-store: must be one or more of cookie, redis, http"},
		"twice":              {environment{"ORGCAST_SESSION_STORE": "cookie,cookie"}, "--session-store: must not name cookie twice"},
		"no store":           {environment{"ORGCAST_SESSION_STORE": " , "}, "--session-store: must name at least one store"},
		"one cookie for two": {environment{"ORGCAST_SESSION_STORE": "cookie,redis"}, "--session-cookie: must name a cookie for each store"},
		"the same cookie":    {environment{"ORGCAST_SESSION_STORE": "cookie,redis", "ORGCAST_SESSION_COOKIE": "a,a"}, "--session-cookie: two stores of --session-store have the same cookie"},
		"pick":               {environment{"ORGCAST_SESSION_COOKIE_PICK": "best"}, "--session-cookie-pick: must be one of first, last"},
		"warning":            {environment{"ORGCAST_SESSION_STORE": "http", "ORGCAST_SESSION_URL": "http://127.0.0.1:1", "ORGCAST_SESSION_URL_KEY": testKey}, "Warning: --lease-deadline=30s with --session-store=http"},
	} {
		t.Run(name, func(t *testing.T) {
			env := environment{}
			for _, e := range []environment{base, test.env} {
				maps.Copy(env, e)
			}
			out, errOut, _ := execute(t, env, "", "check")
			if !strings.Contains(strings.ReplaceAll(out+errOut, " (from environment)", ""), test.want) {
				t.Errorf("got\n%s%s\nwant %q", out, errOut, test.want)
			}
		})
	}
}

// TestCheckAsksTheWebsite: check --connect says what is wrong with the way to the site.
func TestCheckAsksTheWebsite(t *testing.T) {
	w := startWebsite(t)
	addr := redistest.Start(t)
	for name, test := range map[string]struct {
		env  environment
		want string
	}{
		"well":      {nil, "session store     ok"},
		"wrong key": {environment{"ORGCAST_SESSION_URL_KEY": strings.Repeat("x", 32)}, "does not accept the key"},
		"nobody":    {environment{"ORGCAST_SESSION_URL": "http://127.0.0.1:1/"}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			env := w.settings(environment{"ORGCAST_REDIS": "redis://" + addr, "ORGCAST_ORIGINS": testOrigin})
			maps.Copy(env, test.env)
			out, errOut, _ := execute(t, env, "", "check", "--connect")
			if !strings.Contains(out, test.want) {
				t.Errorf("got\n%s%s\nwant %q", out, errOut, test.want)
			}
		})
	}
}
