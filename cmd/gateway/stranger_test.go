package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orgcast/internal/journal"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestStrangerCannotHoldTheGoodbye: a refused request whose body never comes delays no shutdown and
// does not make it fail.
func TestStrangerCannotHoldTheGoodbye(t *testing.T) {
	s := startServe(t, redistest.StartServer(t).Addr, environment{"ORGCAST_CLOSE_TIMEOUT": "100ms"})
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.public)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("GET /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"))
	testkit.Eventually(t, "the request to be counted", func() bool {
		_, body := s.ask("GET", "/metrics", "")
		return strings.Contains(body, `refused_total{reason="unknown_path"} 1`)
	})
	s.cancel()
	if err := s.wait(); err != nil {
		t.Errorf("serve: got %v, want nil", err)
	}
}

// TestPanicOutsideAHookIsLogged: what net/http has to say reaches the log.
func TestPanicOutsideAHookIsLogged(t *testing.T) {
	out := new(syncBuffer)
	w := journal.NewWriter(out, 0)
	log, err := newLogger(&settings{logLevel: "info", logFormat: "json"}, w)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = newHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }), log)
	server.Start()
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := server.Client().Do(request); err == nil {
		_ = response.Body.Close()
	}
	closeJournal(w)
	if !strings.Contains(out.String(), "boom") {
		t.Errorf("log: got %q, want the panic", out.String())
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
