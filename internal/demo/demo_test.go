package demo_test

import (
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
