//go:build !nodemo

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

// TestDemoSaysThatItStarts: it prints a line before it does anything that may take long, here with
// a Redis that never answers.
func TestDemoSaysThatItStarts(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	out := new(testkit.SyncBuffer)
	spawn(t, nil, out, out, "demo", "--listen", "127.0.0.1:0", "--redis", "redis://"+silent.Addr().String())
	testkit.Eventually(t, "a line that it starts", func() bool { return strings.Contains(out.String(), "Orgcast demo: starting") })
	if got := out.String(); strings.Contains(got, "sign in") {
		t.Errorf("got %q, want no invitation before it can be followed", got)
	}
}

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
