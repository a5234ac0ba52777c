package main

import (
	"context"
	"io"
	"net/http"
	"testing"

	"orgcast/internal/testkit/redistest"
)

// TestPublicHealth: a balancer that reaches the public listener alone learns whether the node
// drains, and the path hides no socket and no other path.
func TestPublicHealth(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_PUBLIC_HEALTH": "/healthz"})
	s.expectReady()
	ask := func(method, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, "http://"+s.public+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{http.MethodGet, "/healthz", 200, "ok\n"},
		{http.MethodHead, "/healthz", 200, ""},
		{http.MethodGet, "/healthz?from=balancer", 200, "ok\n"},
		{http.MethodPost, "/healthz", 404, "{\"code\":\"unknown_path\"}\n"},
		{http.MethodGet, "/healthz/", 404, "{\"code\":\"unknown_path\"}\n"},
		{http.MethodGet, "/readyz", 404, "{\"code\":\"unknown_path\"}\n"},
		{http.MethodGet, "/ws/events", 400, "{\"code\":\"no_handshake\"}\n"},
	} {
		if status, body := ask(test.method, test.path); status != test.status || body != test.body {
			t.Errorf("%s %s: got %d %q, want %d %q", test.method, test.path, status, body, test.status, test.body)
		}
	}
}
