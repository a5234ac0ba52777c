package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// storeKind is a kind of session store, for suites that run over each. The zero storeKind is the default of a node.
type storeKind struct {
	name string
	// open returns a store with its sessions.
	open func(tb testing.TB, s *setup) *vault
	// closesStale says that a session that the store does not know any more closes with the advice to try once,
	// because the browser may hold a newer cookie.
	closesStale bool
	// sealed says that the browser keeps the session, so that no change of it reaches the gateway.
	sealed bool
	// process says that the store needs a process, which has no part in fake time.
	process bool
}

// storeKinds is the table of all kinds.
func storeKinds() []storeKind {
	return []storeKind{
		{name: "cookie", open: cookieVault, sealed: true},
		{name: "redis", open: redisVault, process: true},
		{name: "http", open: webVault, closesStale: true},
		{name: "http,cookie", open: severalVault, closesStale: true},
		{name: "django-cache", open: djangoCacheVault, closesStale: true, process: true},
		{name: "django-signed", open: djangoSignedVault, sealed: true},
		{name: "jwt", open: jwtVault, sealed: true},
	}
}

// way is a transport, and a store whose cookies open its handshakes.
type way struct {
	over  via
	store storeKind
}

// setup begins the setup of a node.
func (w way) setup() setup { return setup{over: w.over, store: w.store} }

// eachWay runs a test over each transport and each kind of store.
func eachWay(t *testing.T, test func(t *testing.T, on way)) {
	t.Helper()
	eachWayOf(t, storeKinds(), test)
}

// eachWayOf is eachWay for some kinds of store.
func eachWayOf(t *testing.T, kinds []storeKind, test func(t *testing.T, on way)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			overEach(t, func(t *testing.T, over via) {
				t.Helper()
				test(t, way{over: over, store: kind})
			})
		})
	}
}

// eachStore runs a test that takes long over each kind of store: over each transport with sessions in Redis, and over
// one with each other kind.
func eachStore(t *testing.T, test func(t *testing.T, on way)) {
	t.Helper()
	for i, kind := range storeKinds() {
		t.Run(kind.name, func(t *testing.T) {
			if kind.name == "redis" {
				overEach(t, func(t *testing.T, over via) {
					t.Helper()
					test(t, way{over, kind})
				})
				return
			}
			test(t, way{[]via{webSockets, streams}[i%2], kind})
		})
	}
}

// vault is a store at work, with what a web application does to the sessions in it.
type vault struct {
	session.Store

	// name is that of the cookie that decides.
	name string
	// last says that of several such cookies the last one counts, and else the first.
	last bool
	// mint makes a session that lasts until a moment, and returns its cookies as they stand in the header.
	mint func(user string, org orgctx.ID, end time.Time) string
	// What the application does to a session without telling anybody: it ends it, switches its organization, moves
	// its end. They are nil for signed cookies, which the browser keeps.
	signOut  func(cookies string)
	switchTo func(cookies string, org orgctx.ID)
	renew    func(cookies string, end time.Time)
	// stop makes the store unavailable, and resume ends that. Both are nil for signed cookies.
	stop, resume func()
}

// login makes a session for an hour. org may be empty.
func (v *vault) login(user, org string) (cookies string) {
	return v.loginUntil(user, org, time.Now().Add(time.Hour))
}

func (v *vault) loginUntil(user, org string, end time.Time) (cookies string) {
	if org == "" {
		return v.mint(user, orgctx.ID{}, end)
	}
	return v.mint(user, orgOf(org), end)
}

// value returns the value of the cookie that decides.
func (v *vault) value(cookies string) string {
	r := &http.Request{Header: http.Header{"Cookie": {cookies}}}
	c, err := r.Cookie(v.name)
	if err != nil {
		panic(err)
	}
	return c.Value
}

// with returns cookies with another value of the one that decides.
func (v *vault) with(cookies, value string) string {
	own := v.name + "="
	return strings.Replace(cookies, own+v.value(cookies), own+value, 1)
}

// withWrongOne returns cookies with another one of the same name, which counts and names no session.
func (v *vault) withWrongOne(cookies string) []string {
	if v.last {
		return []string{cookies, v.name + "=x"}
	}
	return []string{v.name + "=x", cookies}
}

// id returns what names a session in announcements.
func (v *vault) id(tb testing.TB, cookies string) string {
	tb.Helper()
	identity, err := v.Resolve(tb.Context(), &http.Request{Header: testkit.Bearing(http.Header{"Cookie": {cookies}}, false)})
	if err != nil {
		tb.Fatal(err)
	}
	return identity.SessionID
}

func cookieVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	return signedVault(tb, cookieStore(tb, s.now, sessionKey))
}

// signedVault makes sessions of a store of signed cookies.
func signedVault(tb testing.TB, store *session.CookieStore) *vault {
	tb.Helper()
	return &vault{Store: store, name: session.DefaultName, mint: func(user string, org orgctx.ID, end time.Time) string {
		begin := func() time.Time { return end.Add(-time.Hour) }
		return mint(tb, cookieStore(tb, begin, sessionKey), user, org.String(), time.Hour)
	}}
}

// redisVault keeps sessions in the server of the setup, or in one of its own.
func redisVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	if s.server == nil {
		s.server = redistest.StartServer(tb)
	}
	client := redis.NewClient(&redis.Options{Addr: s.server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	tb.Cleanup(func() { _ = client.Close() })
	keys := mustKeyspace(tb)
	store := redisStore(tb, client)
	v := &vault{Store: store, name: session.DefaultName, stop: s.server.Stop, resume: func() {
		s.server.Restart()
		// A client that met only refused connections goes on refusing by itself, for up to a second.
		testkit.Eventually(tb, "the client of the sessions is connected", func() bool { return client.Ping(context.Background()).Err() == nil })
	}}
	request := func(cookies string) *http.Request { return &http.Request{Header: http.Header{"Cookie": {cookies}}} }
	logins := make(logins)
	v.renew = func(cookies string, end time.Time) {
		record := logins.change(v.value(cookies), func(l *login) { l.end = end })
		if err := client.Set(context.Background(), keys.Session(v.value(cookies)), record, time.Hour).Err(); err != nil {
			tb.Error(err)
		}
	}
	v.mint = func(user string, org orgctx.ID, end time.Time) string {
		cookies := mint(tb, store, user, org.String(), time.Hour)
		logins[v.value(cookies)] = login{user: user, org: org}
		v.renew(cookies, end)
		return cookies
	}
	v.signOut = func(cookies string) {
		if _, err := store.SignOut(context.Background(), request(cookies)); err != nil {
			tb.Error(err)
		}
	}
	v.switchTo = func(cookies string, org orgctx.ID) {
		if err := store.SetOrganization(context.Background(), request(cookies), org); err != nil {
			tb.Error(err)
		}
	}
	return v
}

func redisStore(tb testing.TB, client *redis.Client) *session.RedisStore {
	tb.Helper()
	store, err := session.NewRedisStore(client, mustKeyspace(tb), session.Options{Timeout: 5 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

// login is what a session says.
type login struct {
	user string
	org  orgctx.ID
	end  time.Time
}

// logins are those of a store by the value of its cookie.
type logins map[string]login

// change changes a login and returns its record, which is the same in Redis and in the answer of a web application.
func (all logins) change(value string, change func(l *login)) (record string) {
	l := all[value]
	change(&l)
	all[value] = l
	return testkit.IdentityAnswer(l.user, l.org.String(), "", l.end)
}

// webKey is what the gateway shows to the web application.
const webKey = "the key of the gateway, 32 bytes."

// webVault asks a web application over HTTP: on a loopback port, or in memory where the node is.
func webVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	site := testkit.NewWebsite(webKey)
	server := httptest.NewUnstartedServer(site)
	transport := new(http.Transport)
	timeout := testkit.Patience
	if s.pipe != nil {
		_ = server.Listener.Close()
		pipe := testkit.Listen()
		server.Listener, timeout = pipe, 2*time.Second
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return pipe.Dial(ctx) }
	}
	server.Start()
	store, err := session.NewWebStore(session.WebOptions{
		Cookie: "sessionid", Now: s.now,
		Ask: asker{url: server.URL, client: &http.Client{Transport: transport, Timeout: timeout}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		store.Close()
		transport.CloseIdleConnections()
		server.Close()
	})
	logins := make(logins)
	v := &vault{Store: store, name: "sessionid", stop: func() { site.SetAway(true) }, resume: func() { site.SetAway(false) }}
	says := func(cookies string, change func(l *login)) {
		value := v.value(cookies)
		site.Says(value, logins.change(value, change))
	}
	v.mint = func(user string, org orgctx.ID, end time.Time) string {
		cookies := v.name + "=" + rand.Text()
		says(cookies, func(l *login) { *l = login{user, org, end} })
		return cookies
	}
	v.signOut = func(cookies string) { site.Says(v.value(cookies), `{"code":"none"}`) }
	v.switchTo = func(cookies string, org orgctx.ID) { says(cookies, func(l *login) { l.org = org }) }
	v.renew = func(cookies string, end time.Time) { says(cookies, func(l *login) { l.end = end }) }
	return v
}

// severalVault asks a web application first. Each of its browsers also has a good signed cookie of somebody else,
// who must never come in.
func severalVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	v, own := webVault(tb, s), cookieVault(tb, s)
	first, okFirst := v.Store.(session.Part)
	second, okSecond := own.Store.(session.Part)
	if !okFirst || !okSecond {
		tb.Fatal("a store cannot be one of several")
	}
	v.Store = session.Several{first, second}
	mint, stranger := v.mint, own.mint("grace", mustOrg(tb, "globex"), time.Now().Add(24*time.Hour))
	v.mint = func(user string, org orgctx.ID, end time.Time) string { return mint(user, org, end) + "; " + stranger }
	return v
}

// asker makes the calls of a store to a web application.
type asker struct {
	url    string
	client *http.Client
}

func (a asker) Ask(ctx context.Context, question []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(question))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+webKey)
	response, err := a.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}
