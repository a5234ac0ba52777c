package api_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/api"
)

var nop = zap.NewNop()

// newAPI returns the API with the key of the tests.
func newAPI(p api.Publisher, r api.Revoker) http.Handler {
	return api.New(api.Options{PublishKey: api.NewKey(key), Publisher: p, Revoker: r, Log: nop})
}

// TestPaths: other paths and methods say so, with a key and without.
func TestPaths(t *testing.T) {
	h := newAPI(new(recorder), new(revoker))
	for _, token := range []string{key, "x"} {
		for request, want := range map[string]int{
			"GET /v1/publish": 405, "GET /v1/revoke": 405, "PUT /v1/publish": 405, "POST /v1/": 404, "POST /v1/publish/": 404, "POST /v1/presence": 404,
		} {
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequest(method, path, http.NoBody)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if code := map[int]string{404: "not_found", 405: "method_not_allowed"}[want]; w.Code != want || !strings.Contains(w.Body.String(), `"code":"`+code+`"`) {
				t.Errorf("%s with key %q: got %d %s, want %d %s", request, token, w.Code, w.Body, want, code)
			}
			if got := w.Header().Get("Allow"); (got == http.MethodPost) != (want == 405) {
				t.Errorf("%s: got Allow %q", request, got)
			}
		}
	}
}

// messages are the sentences in an answer.
var messages = regexp.MustCompile(`,"message":"(?:[^"\\]|\\.)*"`)

// withoutMessages returns an answer without the sentences for people, and reports whether each code
// has one.
func withoutMessages(answer string) (rest string, each bool) {
	return messages.ReplaceAllString(answer, ""), strings.Count(answer, `"code":`) == len(messages.FindAllString(answer, -1))
}

// TestEveryRefusalSaysWhatToDo: each code of each call has one English sentence.
func TestEveryRefusalSaysWhatToDo(t *testing.T) {
	list := api.Messages()
	if len(list) < 20 {
		t.Fatalf("got %d messages, want those of all calls", len(list))
	}
	for code, message := range list {
		if len(message) < 20 || len(message) > 240 || !strings.HasSuffix(message, ".") || message[:1] != strings.ToUpper(message[:1]) || strings.Contains(message, "\n") {
			t.Errorf("%s: got %q, want one sentence", code, message)
		}
	}
}

// TestResultsAreCounted: each event of a request counts, by the code of its answer.
func TestResultsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := api.New(api.Options{PublishKey: api.NewKey(key), Publisher: new(recorder), Revoker: &revoker{recorded: true}, Log: nop, Registerer: reg})
	post := func(path, token, body string) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	good := `{"organization_id":"acme","group":"all","event":{"type":"t"}}`
	post("/v1/publish", key, "["+good+","+good+`,{"organization_id":"acme","group":"a b","event":{"type":"t"}}]`)
	post("/v1/publish", "x", good)
	post("/v1/revoke", key, `{}`)
	post("/v1/revoke", key, `{"type":"user.disabled","user_id":"ada"}`)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, m := range families[0].GetMetric() {
		if n := m.GetCounter().GetValue(); n > 0 {
			got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = n
		}
	}
	want := map[string]float64{
		"/v1/publish ok": 2, "/v1/publish invalid_group": 1, "/v1/publish unauthenticated": 1, "/v1/revoke bad_request": 1, "/v1/revoke ok": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLog: an operator sees why a request came to nothing, and never what was in it.
func TestLog(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	for name, test := range map[string]struct {
		path, token, body string
		publish           error
		revoke            error
		level             zapcore.Level
		message, reason   string
		cause             string // in the field error; "" if the line has none
	}{
		"published":       {path: "/v1/publish", token: key, body: `{"organization_id":"acme","group":"all","event":{"type":"secret"}}`},
		"revoked":         {path: "/v1/revoke", token: key, body: `{"type":"user.disabled","user_id":"secret"}`},
		"wrong key":       {path: "/v1/revoke", token: "secret", body: `{}`, level: zapcore.InfoLevel, message: "request refused", reason: "unauthenticated"},
		"bad request":     {path: "/v1/publish", token: key, body: `{"group":12345}`, level: zapcore.InfoLevel, message: "request refused", reason: "bad_request"},
		"one of a batch":  {path: "/v1/publish", token: key, body: `[{"organization_id":"acme","group":"all","event":{"type":"secret"}},{"organization_id":"acme","group":"s e c"}]`, level: zapcore.InfoLevel, message: "request refused", reason: "invalid_group"},
		"Redis away":      {path: "/v1/publish", token: key, body: `{"organization_id":"acme","group":"all","event":{"type":"secret"}}`, publish: errors.New("dial tcp: refused"), level: zapcore.WarnLevel, message: "request failed", reason: "unavailable", cause: "dial tcp: refused"},
		"cannot announce": {path: "/v1/revoke", token: key, body: `{"type":"user.disabled","user_id":"secret"}`, revoke: errors.New("dial tcp: refused"), level: zapcore.WarnLevel, message: "request failed", reason: "unavailable", cause: "dial tcp: refused"},
	} {
		t.Run(name, func(t *testing.T) {
			logs.TakeAll()
			h := api.New(api.Options{PublishKey: api.NewKey(key), Publisher: &recorder{fail: test.publish}, Revoker: &revoker{recorded: true, err: test.revoke}, Log: zap.New(core)})
			r := httptest.NewRequest(http.MethodPost, test.path, strings.NewReader(test.body))
			r.Header.Set("Authorization", "Bearer "+test.token)
			h.ServeHTTP(httptest.NewRecorder(), r)
			lines := logs.TakeAll()
			if test.message == "" {
				if len(lines) != 0 {
					t.Errorf("got %v, want no line", lines)
				}
				return
			}
			if len(lines) != 1 || lines[0].Level != test.level || lines[0].Message != test.message || lines[0].LoggerName != "api" {
				t.Fatalf("got %v, want one line %q", lines, test.message)
			}
			fields := lines[0].ContextMap()
			if fields["path"] != test.path || fields["reason"] != test.reason || fields["remote"] != r.RemoteAddr || (test.cause != "") != (fields["error"] != nil) {
				t.Errorf("got %v, want %s and %s", fields, test.path, test.reason)
			}
			if cause, _ := fields["error"].(string); cause != test.cause {
				t.Errorf("error: got %q, want %q", cause, test.cause)
			}
			for name, value := range fields {
				if text, _ := value.(string); strings.Contains(text, "secret") || strings.Contains(text, "12345") {
					t.Errorf("%s shows what was in the request: %s", name, text)
				}
			}
		})
	}
}

// TestCodesInDocs: the tables of docs/protocol.md have the codes of each call, with their statuses,
// and no others.
func TestCodesInDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	section := func(heading string) string {
		_, text, ok := strings.Cut(string(page), "\n## "+heading+"\n")
		if !ok {
			t.Fatalf("no section %q", heading)
		}
		text, _, _ = strings.Cut(text, "\n## ")
		return text
	}
	var reasons []string // of events
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|").FindAllStringSubmatch(section("Events"), -1) {
		reasons = append(reasons, m[1])
	}
	row := regexp.MustCompile(`(?m)^\| (\d{3}) \|(.*)\|$`)
	code := regexp.MustCompile("`([a-z0-9_]+)`")
	for path, heading := range map[string]string{"/v1/publish": "Publishing", "/v1/revoke": "Revoking"} {
		got := make(map[string]map[int]bool)
		for _, m := range row.FindAllStringSubmatch(section(heading), -1) {
			status, err := strconv.Atoi(m[1])
			if err != nil || status < 400 {
				continue
			}
			var codes []string
			for _, m := range code.FindAllStringSubmatch(m[2], -1) {
				codes = append(codes, m[1])
			}
			if strings.Contains(m[2], "(#events)") {
				codes = append(codes, reasons...)
			}
			for _, c := range slices.DeleteFunc(codes, func(c string) bool { return c == "refused" || c == "failed" }) {
				if got[c] == nil {
					got[c] = make(map[int]bool)
				}
				got[c][status] = true
			}
		}
		if diff := cmp.Diff(api.Codes(path), got); diff != "" {
			t.Errorf("%s: code (-), docs/protocol.md (+):\n%s", path, diff)
		}
	}
}
