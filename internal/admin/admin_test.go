package admin_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/admin"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func ask(h http.Handler, method, path string) (status int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestReadiness(t *testing.T) {
	var events error
	h := admin.New(admin.Options{Metrics: prometheus.NewRegistry(), Ready: map[string]admin.Check{
		"events": func(context.Context) error { return events },
		"drain": func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); !ok {
				return errors.New("no deadline")
			}
			return nil
		},
	}})
	if status, body := ask(h, "GET", "/readyz"); status != 200 || strings.Count(body, `"ok"`) != 2 {
		t.Errorf("ready: got %d %s", status, body)
	}
	if _, body := ask(h, "GET", "/metrics"); !strings.Contains(body, "\norgcast_ready 1\n") {
		t.Errorf("metrics when ready: got\n%s", body)
	}
	events = errors.New("no canary")
	if status, body := ask(h, "GET", "/readyz"); status != 503 || !strings.Contains(body, `"events":"no canary"`) || !strings.Contains(body, `"drain":"ok"`) {
		t.Errorf("not ready: got %d %s", status, body)
	}
	if _, body := ask(h, "GET", "/metrics"); !strings.Contains(body, "\norgcast_ready 0\n") {
		t.Errorf("metrics when not ready: got\n%s", body)
	}
	if status, body := ask(h, "GET", "/healthz"); status != 200 {
		t.Errorf("alive although not ready: got %d %s", status, body)
	}
}

func TestPaths(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "orgcast_test", Help: "A test."}))
	without := admin.New(admin.Options{Metrics: registry})
	api := http.NewServeMux()
	api.HandleFunc("POST /v1/publish", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	with := admin.New(admin.Options{Metrics: prometheus.NewRegistry(), API: api})
	if status, body := ask(without, "GET", "/metrics"); status != 200 || !strings.Contains(body, "orgcast_test 0") {
		t.Errorf("metrics: got %d %s", status, body)
	}
	if status, _ := ask(without, "GET", "/debug/pprof/goroutine?debug=1"); status != 200 {
		t.Errorf("pprof: got %d", status)
	}
	if status, _ := ask(without, "GET", "/debug/pprof/cmdline"); status != http.StatusNotFound { // flags may hold secrets
		t.Errorf("command line: got %d, want 404", status)
	}
	for _, path := range []string{"/", "/ws/events", "/v1/publish"} {
		if status, _ := ask(without, "POST", path); status == 200 || status == http.StatusTeapot {
			t.Errorf("POST %s: got %d", path, status)
		}
	}
	if status, _ := ask(with, "POST", "/v1/publish"); status != http.StatusTeapot {
		t.Errorf("publish: got %d, want 418", status)
	}
	if status, _ := ask(with, "GET", "/v1/publish"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET publish: got %d, want 405", status)
	}
}
