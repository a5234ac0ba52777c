package demo_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
