//go:build !nodemo

package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestDemoAnswersToItsOwnName: a foreign name that was made to lead to the demo gets nothing.
func TestDemoAnswersToItsOwnName(t *testing.T) {
	h := onlyHosts(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), []string{"127.0.0.1:8080", "localhost:8080"})
	for host, want := range map[string]int{
		"127.0.0.1:8080": 204, "localhost:8080": 204, "localhost:9000": 204, "127.0.0.1": 204,
		"evil.test:8080": 421, "localhost.evil.test:8080": 421, "": 421,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: got %d, want %d", host, w.Code, want)
		}
	}
}
