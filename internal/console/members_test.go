package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/console"
	"orgcast/internal/inventory"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

const key = "console-key-console-key-console-k"

// world is what all nodes know, and what was revoked.
type world struct {
	tb          testing.TB
	connections []inventory.Connection
	careless    bool // rows are not filtered by organization
	incomplete  bool
	busy        bool
	violations  int
	admit       error
	revoked     []lease.Message
	now         time.Time
	logs        *observer.ObservedLogs
	members     *console.Members
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{tb: t, now: time.Unix(1789990000, 0), connections: []inventory.Connection{
		{ID: "A1", Organization: "acme", User: "ada", Session: "SA", Node: "node-secret", UserAgent: "curl"},
		{ID: "A2", Organization: "acme", User: "alan", Node: "node-secret"}, // its store knows no sessions
		{ID: "G1", Organization: "globex", User: "grace", Session: "SG", Node: "node-secret"},
	}}
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs = logs
	w.members = console.New(console.Options{
		Reports: w, Revoker: w, Admit: func(context.Context, console.Administrator) error { return w.admit },
		Usage: func(_ context.Context, org orgctx.ID) ([]console.Hour, error) {
			hours := []console.Hour{{Organization: org.String(), PeakConnections: len(org.String())}}
			if w.careless {
				hours = append(hours, console.Hour{Organization: "globex"})
			}
			return hours, nil
		},
		Violated: func() { w.violations++ }, Log: zap.New(core), Now: func() time.Time { return w.now },
	})
	w.members.SetKey(key)
	return w
}

// Connections implements [console.Reports].
func (w *world) Connections(_ context.Context, q inventory.Query) (inventory.Page[inventory.Connection], bool, error) {
	if w.busy {
		return inventory.Page[inventory.Connection]{}, true, console.ErrBusy
	}
	page := inventory.NewCollector[inventory.Connection](q)
	for _, c := range w.connections {
		if (w.careless || c.Organization == q.Organization) && (q.User == "" || q.User == c.User) && (q.Connection == "" || q.Connection == c.ID) {
			page.Add(c)
		}
	}
	rows, err := page.Page()
	return rows, !w.incomplete, err
}

// Organizations implements [console.Reports].
func (w *world) Organizations(_ context.Context, q inventory.Query) (inventory.Page[inventory.Organization], bool, error) {
	page := inventory.NewCollector[inventory.Organization](q)
	for _, org := range []string{"acme", "globex"} {
		if w.careless || org == q.Organization {
			page.Add(inventory.Organization{ID: org, Connections: len(org)})
		}
	}
	rows, err := page.Page()
	return rows, !w.incomplete, err
}

// Revoke implements [console.Revoker].
func (w *world) Revoke(_ context.Context, m lease.Message) (bool, error) {
	w.revoked = append(w.revoked, m)
	return true, nil
}

// administrator returns one.
func (w *world) administrator(org, user string) console.Administrator {
	return console.Administrator{Organization: testkit.Org(w.tb, org), UserID: user}
}

// request returns a request of an administrator with a good token.
func (w *world) request(method, target, body string, who console.Administrator) *http.Request {
	path, query, _ := strings.Cut(target, "?")
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL.Path, r.URL.RawQuery = path, query
	r.Header.Set("Authorization", "Bearer "+console.Token([]byte(key), who, w.now.Add(30*time.Minute)))
	r.Header.Set("Orgcast-Organization", who.Organization.String())
	r.Header.Set("Orgcast-User", url.PathEscape(who.UserID))
	return r
}

// send returns the status, the code (or "ok") and the text of the answer.
func (w *world) send(r *http.Request) (status int, code, text string) {
	w.tb.Helper()
	recorder := httptest.NewRecorder()
	w.members.ServeHTTP(recorder, r)
	var body map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
		w.tb.Fatalf("%s: %q: %v", r.URL.Path, recorder.Body, err)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Access-Control-Allow-Origin": ""} {
		if got := recorder.Header().Get(name); got != want {
			w.tb.Errorf("%s: got %s %q, want %q", r.URL.Path, name, got, want)
		}
	}
	if code, _ = body["code"].(string); code == "" {
		code = "ok"
	} else if message, _ := body["message"].(string); message == "" {
		w.tb.Errorf("%s: %s without a message", r.URL.Path, code)
	}
	return recorder.Code, code, recorder.Body.String()
}

// TestAdministratorSeesOnlyTheirOrganization: every path, with parameters that name another one.
func TestAdministratorSeesOnlyTheirOrganization(t *testing.T) {
	w := newWorld(t)
	ada := w.administrator("acme", "ada")
	for target, want := range map[string]string{
		"v1/devices": "ok", "v1/health": "ok", "v1/usage": "ok", "v1/devices?user_id=grace": "ok", "v1/devices?cursor=RzA": "ok",
		"v1/devices?organization_id=globex": "unknown_parameter", "v1/devices?user_id=ada&user_id=grace": "unknown_parameter",
		"v1/devices?connection_id=G1": "unknown_parameter", "v1/devices?cursor=%%%": "unknown_parameter", "v1/devices?cursor=_w": "unknown_parameter",
		"v1/devices?user_id=a%0Ab": "unknown_parameter", "v1/devices?limit=1000": "unknown_parameter", "v1/health?organization_id=globex": "unknown_parameter",
		"v1/usage?organization_id=globex": "unknown_parameter", "v1/organizations": "not_found", "v1/nodes": "not_found", "v1/": "not_found", "v1/connections": "not_found",
	} {
		_, code, text := w.send(w.request(http.MethodGet, target, "", ada))
		if code != want || strings.Contains(text, "globex") || strings.Contains(text, "grace") || strings.Contains(text, "G1") || strings.Contains(text, "node-secret") {
			t.Errorf("%s: got %s %s, want %s", target, code, text, want)
		}
	}
	if _, _, text := w.send(w.request(http.MethodGet, "v1/devices", "", ada)); !strings.Contains(text, `"A1"`) || !strings.Contains(text, `"curl"`) {
		t.Errorf("its own devices: got %s", text)
	}
	if _, _, text := w.send(w.request(http.MethodGet, "v1/health", "", w.administrator("globex", "grace"))); !strings.Contains(text, `"connections":6`) {
		t.Errorf("the other organization's health: got %s", text)
	}
}

// TestRowOfAnotherOrganizationNeverLeaves: even if all nodes answered with it. Each is counted.
func TestRowOfAnotherOrganizationNeverLeaves(t *testing.T) {
	w := newWorld(t)
	w.careless = true
	ada := w.administrator("acme", "ada")
	for _, r := range []*http.Request{
		w.request(http.MethodGet, "v1/devices", "", ada), w.request(http.MethodGet, "v1/health", "", ada),
		w.request(http.MethodGet, "v1/usage", "", ada), w.request(http.MethodPost, "v1/revoke", `{"connection_id":"G1"}`, ada),
	} {
		if status, code, text := w.send(r); status != http.StatusServiceUnavailable || code != "unavailable" || strings.Contains(text, "globex") {
			t.Errorf("%s: got %d %s", r.URL.Path, status, text)
		}
	}
	if len(w.revoked) > 0 {
		t.Errorf("revoked %v", w.revoked)
	}
	if got := w.logs.FilterMessage("isolation violation prevented").Len(); got != 4 || w.violations != 4 {
		t.Errorf("logged %d violations and counted %d, want 4", got, w.violations)
	}
}

// TestAdministratorRevokes: a device of their organization, with an audit line, and nobody else's.
func TestAdministratorRevokes(t *testing.T) {
	w := newWorld(t)
	ada := w.administrator("acme", "ada")
	for body, want := range map[string]string{
		`{"connection_id":"G1"}`: "device_not_found", `{"connection_id":"Z"}`: "device_not_found", `{"connection_id":"A2"}`: "no_session",
		`{"session_id":"SG"}`: "bad_request", `{"connection_id":"A1","organization_id":"globex"}`: "bad_request", `{"connection_id":""}`: "bad_request",
		`{"connection_id":"A1\n"}`: "bad_request", `["A1"]`: "bad_request", `{`: "bad_request", ``: "bad_request", `{"connection_id":7}`: "bad_request",
		`{"connection_id":"` + strings.Repeat("A", 2000) + `"}`: "bad_request",
	} {
		if _, code, text := w.send(w.request(http.MethodPost, "v1/revoke", body, ada)); code != want || strings.Contains(text, "globex") {
			t.Errorf("%s: got %s, want %s", body, text, want)
		}
	}
	if _, code, _ := w.send(w.request(http.MethodPost, "v1/revoke?organization_id=globex", `{"connection_id":"A1"}`, ada)); code != "bad_request" {
		t.Errorf("with a parameter: got %s", code)
	}
	w.incomplete = true
	if status, code, _ := w.send(w.request(http.MethodPost, "v1/revoke", `{"connection_id":"Z"}`, ada)); code != "busy" || status != http.StatusServiceUnavailable {
		t.Errorf("a device that a silent node may have: got %d %s", status, code)
	}
	if len(w.revoked) > 0 {
		t.Fatalf("revoked %v", w.revoked)
	}
	if status, code, _ := w.send(w.request(http.MethodPost, "v1/revoke", `{"connection_id":"A1"}`, ada)); status != http.StatusOK {
		t.Errorf("got %d %s", status, code)
	}
	if want := (lease.Message{Type: lease.SessionEnded, SessionID: "SA"}); len(w.revoked) != 1 || w.revoked[0] != want {
		t.Errorf("revoked %v, want %v", w.revoked, want)
	}
	lines := w.logs.FilterMessage("session ended in the console").All()
	if len(lines) != 1 {
		t.Fatalf("got %d audit lines", len(lines))
	}
	for name, want := range map[string]any{"organization_id": "acme", "admin_user_id": "ada", "user_id": "ada", "session_id": "SA", "connection_id": "A1"} {
		if got := lines[0].ContextMap()[name]; got != want {
			t.Errorf("audit: got %s %v, want %v", name, got, want)
		}
	}
}

// TestTokenVectors: the file has tokens that web applications make.
func TestTokenVectors(t *testing.T) {
	text, err := os.ReadFile("../../testdata/console/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Key     string `json:"key"`
		Org     string `json:"organization_id"`
		User    string `json:"user_id"`
		Expires int64  `json:"expires"`
		Token   string `json:"token"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 3 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		w := newWorld(t)
		who := w.administrator(v.Org, v.User)
		if got := console.Token([]byte(v.Key), who, time.Unix(v.Expires, 0)); got != v.Token {
			t.Errorf("%s: got %s, want %s", v.User, got, v.Token)
		}
		w.members.SetKey(v.Key)
		w.now = time.Unix(v.Expires, 0).Add(-time.Minute)
		r := w.request(http.MethodGet, "v1/health", "", who)
		r.Header.Set("Authorization", "Bearer "+v.Token)
		if status, code, _ := w.send(r); status != http.StatusOK {
			t.Errorf("%s: got %d %s", v.User, status, code)
		}
	}
}

// TestTokensThatOpenNothing: whatever differs from a token that the web application made.
func TestTokensThatOpenNothing(t *testing.T) {
	w := newWorld(t)
	ada := w.administrator("acme", "ada")
	good := console.Token([]byte(key), ada, w.now.Add(30*time.Minute))
	until, mac, _ := strings.Cut(good, ".")
	made := func(who console.Administrator, after time.Duration) string {
		return console.Token([]byte(key), who, w.now.Add(after))
	}
	for name, attack := range map[string]struct {
		change func(h http.Header)
		want   string
	}{
		"control":                      {func(http.Header) {}, "ok"},
		"an hour ahead":                {func(h http.Header) { h.Set("Authorization", "Bearer "+made(ada, time.Hour)) }, "ok"},
		"lower-case scheme":            {func(h http.Header) { h.Set("Authorization", "bearer "+good) }, "ok"},
		"none":                         {func(h http.Header) { h.Del("Authorization") }, "unauthenticated"},
		"empty":                        {func(h http.Header) { h.Set("Authorization", "Bearer ") }, "unauthenticated"},
		"other scheme":                 {func(h http.Header) { h.Set("Authorization", "Basic "+good) }, "unauthenticated"},
		"two":                          {func(h http.Header) { h.Add("Authorization", "Bearer "+good) }, "unauthenticated"},
		"another organization":         {func(h http.Header) { h.Set("Orgcast-Organization", "globex") }, "unauthenticated"},
		"two organizations":            {func(h http.Header) { h.Add("Orgcast-Organization", "globex") }, "unauthenticated"},
		"no organization":              {func(h http.Header) { h.Del("Orgcast-Organization") }, "unauthenticated"},
		"organization with a slash":    {func(h http.Header) { h.Set("Orgcast-Organization", "acme/") }, "unauthenticated"},
		"organization with a line end": {func(h http.Header) { h["Orgcast-Organization"] = []string{"acme\n"} }, "unauthenticated"},
		"organization in another case": {func(h http.Header) { h.Set("Orgcast-Organization", "ACME") }, "unauthenticated"},
		"line ends moved": {func(h http.Header) {
			h["Orgcast-Organization"], h["Orgcast-User"] = []string{"acme\nada"}, []string{""}
		}, "unauthenticated"},
		"another user":           {func(h http.Header) { h.Set("Orgcast-User", "alan") }, "unauthenticated"},
		"user with a line end":   {func(h http.Header) { h.Set("Orgcast-User", "ada%0A"+until) }, "unauthenticated"},
		"user not escaped well":  {func(h http.Header) { h.Set("Orgcast-User", "ada%") }, "unauthenticated"},
		"user that is not UTF-8": {func(h http.Header) { h.Set("Orgcast-User", "%ff") }, "unauthenticated"},
		"long user":              {func(h http.Header) { h.Set("Orgcast-User", strings.Repeat("a", 20000)) }, "unauthenticated"},
		"another tenant's token": {func(h http.Header) {
			h.Set("Authorization", "Bearer "+made(w.administrator("globex", "ada"), time.Minute))
		}, "unauthenticated"},
		"another user's token": {func(h http.Header) {
			h.Set("Authorization", "Bearer "+made(w.administrator("acme", "alan"), time.Minute))
		}, "unauthenticated"},
		"another key": {func(h http.Header) {
			h.Set("Authorization", "Bearer "+console.Token([]byte(strings.ToUpper(key)), ada, w.now.Add(time.Minute)))
		}, "unauthenticated"},
		"upper-case digits": {func(h http.Header) { h.Set("Authorization", "Bearer "+until+"."+strings.ToUpper(mac)) }, "unauthenticated"},
		"a digit less":      {func(h http.Header) { h.Set("Authorization", "Bearer "+good[:len(good)-1]) }, "unauthenticated"},
		"a digit more":      {func(h http.Header) { h.Set("Authorization", "Bearer "+good+"0") }, "unauthenticated"},
		"not hexadecimal":   {func(h http.Header) { h.Set("Authorization", "Bearer "+until+"."+strings.Repeat("g", 64)) }, "unauthenticated"},
		"longer life":       {func(h http.Header) { h.Set("Authorization", "Bearer "+fmt.Sprint(w.now.Unix()+3599)+"."+mac) }, "unauthenticated"},
		"leading zero":      {func(h http.Header) { h.Set("Authorization", "Bearer 0"+good) }, "unauthenticated"},
		"plus sign":         {func(h http.Header) { h.Set("Authorization", "Bearer +"+good) }, "unauthenticated"},
		"negative":          {func(h http.Header) { h.Set("Authorization", "Bearer -1."+mac) }, "unauthenticated"},
		"overflow":          {func(h http.Header) { h.Set("Authorization", "Bearer 99999999999999999999."+mac) }, "unauthenticated"},
		"space after":       {func(h http.Header) { h["Authorization"] = []string{"Bearer " + good + " "} }, "unauthenticated"},
		"long":              {func(h http.Header) { h.Set("Authorization", "Bearer "+until+"."+strings.Repeat("0", 30000)) }, "unauthenticated"},
		"expired":           {func(h http.Header) { h.Set("Authorization", "Bearer "+made(ada, 0)) }, "token_expired"},
		"too far ahead":     {func(h http.Header) { h.Set("Authorization", "Bearer "+made(ada, time.Hour+time.Second)) }, "token_too_long"},
		"expired by another key": {func(h http.Header) {
			h.Set("Authorization", "Bearer "+console.Token([]byte("x"), ada, w.now.Add(-time.Hour)))
		}, "unauthenticated"},
	} {
		r := w.request(http.MethodGet, "v1/devices", "", ada)
		attack.change(r.Header)
		status, code, text := w.send(r)
		if code != attack.want || code != "ok" && (status != http.StatusUnauthorized || strings.Contains(text, "A1")) {
			t.Errorf("%s: got %d %s, want %s", name, status, text, attack.want)
		}
	}
	w.members.SetKey("")
	if _, code, _ := w.send(w.request(http.MethodGet, "v1/devices", "", ada)); code != "unauthenticated" {
		t.Errorf("without a key: got %s", code)
	}
}

// TestOtherMethods: each path has one.
func TestOtherMethods(t *testing.T) {
	w := newWorld(t)
	ada := w.administrator("acme", "ada")
	for path, allowed := range map[string]string{"v1/devices": http.MethodGet, "v1/health": http.MethodGet, "v1/usage": http.MethodGet, "v1/revoke": http.MethodPost} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, "TRACE"} {
			if method == allowed {
				continue
			}
			if status, code, _ := w.send(w.request(method, path, `{"connection_id":"A1"}`, ada)); status != http.StatusMethodNotAllowed || code != "method_not_allowed" {
				t.Errorf("%s %s: got %d %s", method, path, status, code)
			}
		}
	}
	if len(w.revoked) > 0 {
		t.Errorf("revoked %v", w.revoked)
	}
}

// TestFormerAdministrator: a good token opens nothing if its user may not act any more, or if nobody
// can say.
func TestFormerAdministrator(t *testing.T) {
	w := newWorld(t)
	for err, want := range map[error]string{fmt.Errorf("%w: removed", console.ErrNotAllowed): "not_allowed", errors.New("no Redis"): "unavailable"} {
		w.admit = err
		if _, code, text := w.send(w.request(http.MethodGet, "v1/devices", "", w.administrator("acme", "ada"))); code != want || strings.Contains(text, "A1") || strings.Contains(text, "Redis") {
			t.Errorf("got %s, want %s", text, want)
		}
	}
}

// TestOrganizationsArePaced: one that asks too often is refused, and the others are not.
func TestOrganizationsArePaced(t *testing.T) {
	w := newWorld(t)
	ada, grace := w.administrator("acme", "ada"), w.administrator("globex", "grace")
	refused := 0
	for range 60 {
		if status, code, _ := w.send(w.request(http.MethodGet, "v1/health", "", ada)); status == http.StatusTooManyRequests && code == "too_many_requests" {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d of 60 requests at a time were refused, want 20", refused)
	}
	if _, code, _ := w.send(w.request(http.MethodGet, "v1/health", "", grace)); code != "ok" {
		t.Errorf("another organization: got %s", code)
	}
	w.now = w.now.Add(time.Second)
	if _, code, _ := w.send(w.request(http.MethodGet, "v1/health", "", ada)); code != "ok" {
		t.Errorf("a second later: got %s", code)
	}
	// Strangers cost one HMAC each and use up nothing of what members have.
	for range 1000 {
		r := w.request(http.MethodGet, "v1/health", "", ada)
		r.Header.Set("Authorization", "Bearer 1790000600."+strings.Repeat("0", 64))
		if _, code, _ := w.send(r); code != "unauthenticated" {
			t.Fatalf("a stranger: got %s", code)
		}
	}
	if _, code, _ := w.send(w.request(http.MethodGet, "v1/health", "", ada)); code != "ok" {
		t.Errorf("after strangers: got %s", code)
	}
	if lines := w.logs.FilterMessage("console request refused").Len(); lines > 3 {
		t.Errorf("%d lines about refusals", lines)
	}
	w.busy = true
	if status, code, _ := w.send(w.request(http.MethodGet, "v1/devices", "", grace)); status != http.StatusServiceUnavailable || code != "busy" {
		t.Errorf("with too many questions under way: got %d %s", status, code)
	}
}
