package app

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orgcast/internal/journal"
)

// TestPanicOutsideAHookIsLogged: what net/http has to say reaches the log.
func TestPanicOutsideAHookIsLogged(t *testing.T) {
	out := new(bytes.Buffer) // read when its writer has closed
	w := journal.NewWriter(out, 0)
	log, _, err := (&Options{LogLevel: "info", LogFormat: "json"}).NewLogger(w)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }), log)
	server.Start()
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := server.Client().Do(request); err == nil {
		_ = response.Body.Close()
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "boom") {
		t.Errorf("log: got %q, want the panic", out.String())
	}
}
