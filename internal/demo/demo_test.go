package demo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/demo"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const cookieName = "orgcast_session"

// town stands in for everything behind the demo: it keeps sessions, remembers what was published
// and which requests reached the gateway.
type town struct {
	mu        sync.Mutex
	sessions  map[string]session.Identity // by cookie value
	published []publication
	arrived   []arrival

	// Fixed before the first request.
	mintErr, resolveErr, admitErr, publishErr error
}

type publication struct {
	Group   string // ORG/NAME
	Payload map[string]any
}

// arrival is a request as the gateway saw it.
type arrival struct{ Path, RawQuery, Cookie string }

func (t *town) Mint(_ context.Context, g session.Grant) (*http.Cookie, error) {
	if t.mintErr != nil {
		return nil, t.mintErr
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	value := "session-of-" + g.UserID
	t.sessions[value] = session.Identity{UserID: g.UserID, Organization: g.Organization, Expires: time.Now().Add(time.Hour)}
	return &http.Cookie{Name: cookieName, Value: value, MaxAge: 3600}, nil
}

func (t *town) Resolve(_ context.Context, r *http.Request) (session.Identity, error) {
	if t.resolveErr != nil {
		return session.Identity{}, t.resolveErr
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return session.Identity{}, session.ErrNone
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.sessions[cookie.Value]
	if !ok {
		return session.Identity{}, session.ErrNone
	}
	return id, nil
}

func (t *town) Admit(_ context.Context, _ orgctx.ID, user string) (directory.Member, error) {
	if t.admitErr != nil {
		return directory.Member{}, t.admitErr
	}
	if user == "sam" {
		return directory.Member{}, directory.ErrNotMember
	}
	return directory.Member{Role: "member"}, nil
}

func (t *town) Publish(_ context.Context, g event.Group, payload []byte) error {
	if t.publishErr != nil {
		return t.publishErr
	}
	p := publication{Group: g.String()}
	if err := json.Unmarshal(payload, &p.Payload); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published = append(t.published, p)
	return nil
}

func (t *town) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrived = append(t.arrived, arrival{Path: r.URL.Path, RawQuery: r.URL.RawQuery, Cookie: r.Header.Get("Cookie")})
	w.WriteHeader(http.StatusTeapot)
}

func newTown() *town { return &town{sessions: make(map[string]session.Identity)} }

func (t *town) options() demo.Options {
	return demo.Options{
		Gateway: t, CookieName: cookieName, Minter: t, Sessions: t, Membership: t, Publisher: t,
		Dispatcher: new(work), Pictures: new(work), Site: mustURL("http://127.0.0.1:8080"),
		Status: func() demo.Status { return demo.Status{Violations: 0, Connections: 2} },
	}
}

func newHandler(tb testing.TB, t *town) http.Handler {
	tb.Helper()
	h, err := demo.Handler(t.options())
	if err != nil {
		tb.Fatalf("Handler: %v", err)
	}
	return h
}

// do serves one request and returns its answer.
func do(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// postJSON makes a request as the page sends it.
func postJSON(path, body string, cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// signIn signs a user in at the seat and returns the cookie.
func signIn(tb testing.TB, h http.Handler, user, seat string) *http.Cookie {
	tb.Helper()
	resp := do(h, postJSON("/demo/sign-in", `{"user":"`+user+`","seat":"`+seat+`"}`))
	if resp.StatusCode != http.StatusOK {
		tb.Fatalf("sign in %s: got status %d, want 200", user, resp.StatusCode)
	}
	if got := len(resp.Cookies()); got != 1 {
		tb.Fatalf("sign in %s: got %d cookies, want 1", user, got)
	}
	return resp.Cookies()[0]
}

// errorCode returns the stable code of a refusal.
func errorCode(tb testing.TB, resp *http.Response) string {
	tb.Helper()
	var body struct {
		Error struct{ Code, Message string }
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatalf("read answer: %v", err)
	}
	if err := json.Unmarshal(data, &body); err != nil {
		tb.Fatalf("answer is no JSON: %v: %q", err, data)
	}
	if body.Error.Message == "" {
		tb.Errorf("refusal without a message: %q", data)
	}
	return body.Error.Code
}

func checkRefusal(tb testing.TB, resp *http.Response, status int, code string) {
	tb.Helper()
	if resp.StatusCode != status {
		tb.Errorf("got status %d, want %d", resp.StatusCode, status)
	}
	if got := errorCode(tb, resp); got != code {
		tb.Errorf("got code %q, want %q", got, code)
	}
}

func TestHandlerNeedsAllParts(t *testing.T) {
	t.Parallel()
	remove := map[string]func(*demo.Options){
		"gateway":    func(o *demo.Options) { o.Gateway = nil },
		"cookie":     func(o *demo.Options) { o.CookieName = "" },
		"minter":     func(o *demo.Options) { o.Minter = nil },
		"sessions":   func(o *demo.Options) { o.Sessions = nil },
		"membership": func(o *demo.Options) { o.Membership = nil },
		"publisher":  func(o *demo.Options) { o.Publisher = nil },
		"dispatcher": func(o *demo.Options) { o.Dispatcher = nil },
		"pictures":   func(o *demo.Options) { o.Pictures = nil },
		"site":       func(o *demo.Options) { o.Site = nil },
		"status":     func(o *demo.Options) { o.Status = nil },
	}
	for name, drop := range remove {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newTown().options()
			drop(&o)
			if _, err := demo.Handler(o); !errors.Is(err, demo.ErrOptions) {
				t.Errorf("got error %v, want %v", err, demo.ErrOptions)
			}
		})
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	form := "application/x-www-form-urlencoded"
	tests := map[string]struct {
		contentType, body string
		wantCookie        string
		wantOrganization  string
	}{
		"form":            {form, "user=ada", cookieName, "acme"},
		"json":            {"application/json", `{"user":"grace"}`, cookieName, "globex"},
		"json charset":    {"application/json; charset=utf-8", `{"user":"alan"}`, cookieName, "acme"},
		"seat":            {"application/json", `{"user":"greta","seat":"right"}`, cookieName + "_right", "globex"},
		"seat in form":    {form, "user=ada&seat=left1", cookieName + "_left1", "acme"},
		"suspended":       {form, "user=sam", cookieName, "acme"},
		"no organization": {form, "user=olga", cookieName, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			r := httptest.NewRequest(http.MethodPost, "/demo/sign-in", strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			resp := do(newHandler(t, town), r)
			if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
				t.Fatalf("got status %d and %d cookies, want 200 and 1", resp.StatusCode, len(resp.Cookies()))
			}
			c := resp.Cookies()[0]
			if c.Name != test.wantCookie || c.Path != "/" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("got cookie %s, want %s with Path=/, HttpOnly and SameSite=Lax", c, test.wantCookie)
			}
			if got := town.sessions[c.Value].Organization.String(); got != test.wantOrganization {
				t.Errorf("session has organization %q, want %q", got, test.wantOrganization)
			}
		})
	}
}

func TestSignInRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		contentType, body string
		status            int
		code              string
	}{
		"unknown user":    {"application/json", `{"user":"mallory"}`, 404, "unknown_user"},
		"no user":         {"application/x-www-form-urlencoded", "", 404, "unknown_user"},
		"no content type": {"", "user=ada", 404, "unknown_user"},
		"seat with dot":   {"application/json", `{"user":"ada","seat":"a.b"}`, 400, "bad_request"},
		"seat with space": {"application/x-www-form-urlencoded", "user=ada&seat=a%3B+b", 400, "bad_request"},
		"long seat":       {"application/json", `{"user":"ada","seat":"aaaaaaaaaaaaaaaaa"}`, 400, "bad_request"},
		"broken json":     {"application/json", `{"user":`, 400, "bad_request"},
		"trailing json":   {"application/json", `{"user":"ada"} {}`, 400, "bad_request"},
		"json array":      {"application/json", `["ada"]`, 400, "bad_request"},
		"own choice":      {"application/json", `{"user":"ada","organization_id":"globex"}`, 400, "bad_request"},
		"broken form":     {"application/x-www-form-urlencoded", "user=%zz", 400, "bad_request"},
		"large json":      {"application/json", `{"user":"` + strings.Repeat("a", 9<<10) + `"}`, 413, "too_large"},
		"large form":      {"application/x-www-form-urlencoded", "user=" + strings.Repeat("a", 9<<10), 413, "too_large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/demo/sign-in", strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			resp := do(newHandler(t, newTown()), r)
			checkRefusal(t, resp, test.status, test.code)
			if got := len(resp.Cookies()); got != 0 {
				t.Errorf("got %d cookies, want none", got)
			}
		})
	}
}

// A page of another origin must not act for the signed-in person, same site or not.
func TestForeignOriginCannotPost(t *testing.T) {
	t.Parallel()
	town := newTown()
	h := newHandler(t, town)
	cookie := signIn(t, h, "ada", "")
	tests := map[string]struct {
		header, value string
		wantStatus    int
	}{
		"own origin":        {"Origin", "http://example.com", 200},
		"own, as browsers":  {"Sec-Fetch-Site", "same-origin", 200},
		"no browser":        {"Accept", "*/*", 200},
		"other host":        {"Origin", "http://attacker.test", 403},
		"other port":        {"Origin", "http://example.com:8081", 403},
		"opaque origin":     {"Origin", "null", 403},
		"neighbor by fetch": {"Sec-Fetch-Site", "same-site", 403},
		"stranger by fetch": {"Sec-Fetch-Site", "cross-site", 403},
	}
	for path, body := range map[string]string{
		"/demo/publish": `{"group":"room.1","text":"hi"}`,
		"/demo/sign-in": `{"user":"grace"}`,
	} {
		for name, test := range tests {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				r := postJSON(path, body, cookie)
				r.Header.Set(test.header, test.value)
				resp := do(h, r)
				if test.wantStatus != http.StatusOK {
					checkRefusal(t, resp, test.wantStatus, "foreign_origin")
				} else if resp.StatusCode != http.StatusOK {
					t.Errorf("got status %d, want 200", resp.StatusCode)
				}
			})
		}
	}
}

func TestSeatPresentsOnlyItsOwnSession(t *testing.T) {
	t.Parallel()
	all := []*http.Cookie{
		{Name: cookieName, Value: "real"},
		{Name: cookieName + "_left", Value: "one"},
		{Name: cookieName + "_left", Value: "other"},
		{Name: cookieName + "_right", Value: "two"},
		{Name: "theme", Value: "dark"},
	}
	tests := map[string]struct {
		path string
		want []arrival
	}{
		"left, first of two": {"/seat/left/ws/events?a=b", []arrival{{"/ws/events", "a=b", cookieName + "=one"}}},
		"right":              {"/seat/right/ws/events", []arrival{{"/ws/events", "", cookieName + "=two"}}},
		"nobody there":       {"/seat/middle/ws/events", []arrival{{"/ws/events", "", ""}}},
		"stream":             {"/seat/left/sse/events?group=a", []arrival{{"/sse/events", "group=a", cookieName + "=one"}}},
		"stream, no seat":    {"/sse/events", []arrival{{"/sse/events", "", "orgcast_session=real; orgcast_session_left=one; orgcast_session_left=other; orgcast_session_right=two; theme=dark"}}},
		"other route":        {"/seat/left/ws/chat/", []arrival{{"/ws/chat/", "", cookieName + "=one"}}},
		"escaped route":      {"/seat/left/ws/a%20b", []arrival{{"/ws/a b", "", cookieName + "=one"}}},
		"invalid seat":       {"/seat/LEFT/ws/events", nil},
		"escaped seat":       {"/seat/l%2Fx/ws/events", nil},
		"not the gateway's":  {"/seat/left/demo/status", nil},
		"no seat, all as is": {"/ws/events", []arrival{{"/ws/events", "", "orgcast_session=real; orgcast_session_left=one; orgcast_session_left=other; orgcast_session_right=two; theme=dark"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			r := httptest.NewRequest(http.MethodGet, test.path, http.NoBody)
			for _, c := range all {
				r.AddCookie(c)
			}
			before := r.Header.Get("Cookie")
			resp := do(newHandler(t, town), r)
			if diff := cmp.Diff(test.want, town.arrived); diff != "" {
				t.Errorf("what reached the gateway (-want +got):\n%s", diff)
			}
			if test.want == nil && resp.StatusCode != http.StatusNotFound {
				t.Errorf("got status %d, want 404", resp.StatusCode)
			}
			if got := r.Header.Get("Cookie"); got != before {
				t.Errorf("the caller's request was changed: got cookies %q, want %q", got, before)
			}
		})
	}
}

func TestPublishGoesToTheOrganizationOfTheSession(t *testing.T) {
	t.Parallel()
	town := newTown()
	h := newHandler(t, town)
	left, right := signIn(t, h, "ada", "left"), signIn(t, h, "grace", "right")

	steps := []struct{ seat, group, wantGroup, wantOrganization, wantFrom string }{
		{"left", "room.1", "acme/room.1", "acme", "ada"},
		{"right", "room.1", "globex/room.1", "globex", "grace"},
		{"right", "all", "globex/all", "globex", "grace"},
		{"left", "user.ada", "acme/user.ada", "acme", "ada"},
	}
	ids := make(map[any]bool)
	for i, step := range steps {
		resp := do(h, postJSON("/demo/publish", `{"seat":"`+step.seat+`","group":"`+step.group+`","text":"<hi> ✓"}`, left, right))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("step %d: got status %d, want 200", i, resp.StatusCode)
		}
		var answer map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		got := town.published[i]
		want := publication{Group: step.wantGroup, Payload: map[string]any{
			"type": "note", "organization_id": step.wantOrganization, "from": step.wantFrom, "text": "<hi> ✓",
			"id": answer["id"], "sent_at": answer["sent_at"],
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d: published (-want +got):\n%s", i, diff)
		}
		if id, _ := answer["id"].(string); id == "" || ids[id] {
			t.Errorf("step %d: got id %q, want a new one", i, id)
		}
		ids[answer["id"]] = true
	}
}

func TestPublishRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		user, body string
		status     int
		code       string
	}{
		"forged organization":   {"grace", `{"group":"room.1","text":"x","organization_id":"acme"}`, 400, "bad_request"},
		"forged sender":         {"grace", `{"group":"room.1","text":"x","from":"ada"}`, 400, "bad_request"},
		"somebody else's group": {"grace", `{"group":"user.ada","text":"x"}`, 403, "unknown_group"},
		"unlisted group":        {"grace", `{"group":"room.3","text":"x"}`, 403, "unknown_group"},
		"group with path":       {"grace", `{"group":"../acme/room.1","text":"x"}`, 403, "unknown_group"},
		"group with channel":    {"grace", `{"group":"orgcast:{acme}:group:room.1","text":"x"}`, 403, "unknown_group"},
		"no group":              {"grace", `{"text":"x"}`, 403, "unknown_group"},
		"no text":               {"grace", `{"group":"all"}`, 400, "bad_request"},
		"long text":             {"grace", `{"group":"all","text":"` + strings.Repeat("ä", 501) + `"}`, 400, "bad_request"},
		"invalid seat":          {"grace", `{"seat":"A","group":"all","text":"x"}`, 400, "bad_request"},
		"empty seat's session":  {"grace", `{"seat":"left","group":"all","text":"x"}`, 401, "not_signed_in"},
		"not signed in":         {"", `{"group":"all","text":"x"}`, 401, "not_signed_in"},
		"no organization":       {"olga", `{"group":"all","text":"x"}`, 403, "no_organization"},
		"suspended":             {"sam", `{"group":"all","text":"x"}`, 403, "not_a_member"},
		"broken":                {"grace", `{"group":"all","text":`, 400, "bad_request"},
		"not an object":         {"grace", `"all"`, 400, "bad_request"},
		"two objects":           {"grace", `{"group":"all","text":"x"}{}`, 400, "bad_request"},
		"empty":                 {"grace", ``, 400, "bad_request"},
		"too large":             {"grace", `{"group":"all","text":"` + strings.Repeat("x", 9<<10) + `"}`, 413, "too_large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			h := newHandler(t, town)
			r := postJSON("/demo/publish", test.body)
			if test.user != "" {
				r.AddCookie(signIn(t, h, test.user, ""))
			}
			checkRefusal(t, do(h, r), test.status, test.code)
			if len(town.published) != 0 {
				t.Errorf("got %v published, want nothing", town.published)
			}
		})
	}
}

func TestPublishTakesNoForm(t *testing.T) {
	t.Parallel()
	town := newTown()
	h := newHandler(t, town)
	for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""} {
		r := postJSON("/demo/publish", `{"group":"room.1","text":"x"}`, signIn(t, h, "ada", ""))
		r.Header.Set("Content-Type", contentType)
		checkRefusal(t, do(h, r), http.StatusUnsupportedMediaType, "bad_request")
	}
	if len(town.published) != 0 {
		t.Errorf("got %v published, want nothing", town.published)
	}
}

// When Redis is away the page is told so, with a code and without our error text.
func TestRedisUnavailable(t *testing.T) {
	t.Parallel()
	const secret = "dial tcp 10.0.0.7:6379"
	tests := map[string]struct {
		spoil func(*town)
		path  string
	}{
		"sign in": {func(t *town) { t.mintErr = errors.New(secret) }, "/demo/sign-in"},
		"session": {func(t *town) { t.resolveErr = errors.Join(session.ErrUnavailable, errors.New(secret)) }, "/demo/publish"},
		"member":  {func(t *town) { t.admitErr = errors.Join(directory.ErrUnavailable, errors.New(secret)) }, "/demo/publish"},
		"publish": {func(t *town) { t.publishErr = errors.New(secret) }, "/demo/publish"},
	}
	bodies := map[string]string{"/demo/sign-in": `{"user":"ada"}`, "/demo/publish": `{"group":"all","text":"x"}`}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			h := newHandler(t, town)
			cookie := signIn(t, h, "ada", "")
			test.spoil(town)
			resp := do(h, postJSON(test.path, bodies[test.path], cookie))
			var body bytes.Buffer
			resp.Body = io.NopCloser(io.TeeReader(resp.Body, &body))
			checkRefusal(t, resp, http.StatusServiceUnavailable, "unavailable")
			if strings.Contains(body.String(), "10.0.0.7") {
				t.Errorf("our error text reached the page: %s", body.String())
			}
			if got := resp.Header.Get("Retry-After"); got != "1" {
				t.Errorf("got Retry-After %q, want 1", got)
			}
		})
	}
}

func TestWho(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		user, seat string
		status     int
		want       string // code, or user@organization
	}{
		"member":          {"ada", "left", 200, "ada@acme"},
		"suspended":       {"sam", "left", 403, "not_a_member"},
		"no organization": {"olga", "left", 403, "no_organization"},
		"other seat":      {"ada", "right", 401, "not_signed_in"},
		"no seat":         {"ada", "", 401, "not_signed_in"},
		"invalid seat":    {"ada", "A", 400, "bad_request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandler(t, newTown())
			r := httptest.NewRequest(http.MethodGet, "/demo/who?seat="+test.seat, http.NoBody)
			r.AddCookie(signIn(t, h, test.user, "left"))
			resp := do(h, r)
			if test.status != http.StatusOK {
				checkRefusal(t, resp, test.status, test.want)
				return
			}
			var got struct {
				User         string `json:"user_id"`
				Organization string `json:"organization_id"`
			}
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got := got.User + "@" + got.Organization; resp.StatusCode != test.status || got != test.want {
				t.Errorf("got %d %s, want %d %s", resp.StatusCode, got, test.status, test.want)
			}
		})
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newTown())
	tests := map[string]struct {
		method, path string
		status       int
		contentType  string
		wantInBody   string
		wantPolicy   bool
	}{
		"page":         {"GET", "/", 200, "text/html; charset=utf-8", "<title>Orgcast demo", true},
		"style":        {"GET", "/app.css", 200, "text/css; charset=utf-8", ":root", true},
		"script":       {"GET", "/app.js", 200, "text/javascript; charset=utf-8", "import", true},
		"icon":         {"GET", "/favicon.svg", 200, "image/svg+xml", "<svg", true},
		"people":       {"GET", "/demo/people", 200, "application/json", `"user":"olga"`, false},
		"status":       {"GET", "/demo/status", 200, "application/json", `{"violations":0,"connections":2}`, false},
		"post to page": {"POST", "/", 404, "application/json", "not_found", false},
		"unknown":      {"GET", "/demo/nothing", 404, "application/json", "not_found", false},
		"wrong method": {"GET", "/demo/publish", 404, "application/json", "not_found", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp := do(h, httptest.NewRequest(test.method, test.path, http.NoBody))
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.status || resp.Header.Get("Content-Type") != test.contentType {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, resp.Header.Get("Content-Type"), test.status, test.contentType)
			}
			if !strings.Contains(string(body), test.wantInBody) {
				t.Errorf("got body %q, want %q in it", body, test.wantInBody)
			}
			policy := resp.Header.Get("Content-Security-Policy")
			if got := strings.Contains(policy, "default-src 'self'"); got != test.wantPolicy {
				t.Errorf("got policy %q, want one: %v", policy, test.wantPolicy)
			}
		})
	}
}
