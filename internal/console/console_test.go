package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"orgcast/internal/console"
	"orgcast/internal/testkit"
	"orgcast/web"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// serve asks a handler.
func serve(h http.Handler, method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", http.NoBody)
	r.URL.Path = path
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestPage: each scope has its own first page, and all files have their type and strict headers.
func TestPage(t *testing.T) {
	types := map[string]string{".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
	for _, scope := range []console.Scope{console.Operators, console.Organization} {
		h := console.Page(scope)
		size := 0
		err := fs.WalkDir(web.Console(), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			asked := strings.TrimSuffix(name, "index.html")
			w := serve(h, http.MethodGet, asked)
			if kind := types[path.Ext(name)]; w.Code != http.StatusOK || kind == "" || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
				t.Errorf("%s: got %d %s", name, w.Code, w.Header().Get("Content-Type"))
			}
			if asked == "" && !strings.Contains(w.Body.String(), `data-scope="`+string(scope)+`"`) {
				t.Errorf("the page does not say its scope %s", scope)
			}
			if head := serve(h, http.MethodHead, asked); head.Code != http.StatusOK || head.Body.Len() != 0 {
				t.Errorf("HEAD %s: got %d, %d bytes", name, head.Code, head.Body.Len())
			}
			size += w.Body.Len()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", scope, size)
		if most := 48 << 10; size > most {
			t.Errorf("the page has %d bytes, want at most %d", size, most)
		}
	}
}

// TestPageIsStrict: no answer may be framed, kept, or run anything but its own files.
func TestPageIsStrict(t *testing.T) {
	h := console.Page(console.Organization)
	for _, asked := range []string{"", "main.js", "console.css", "index.html", "../demo/index.html", "nothing"} {
		w := serve(h, http.MethodGet, asked)
		policy := w.Header().Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%q: the policy %q lacks %s", asked, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%q: the policy %q is not strict", asked, policy)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%q: got %s %q, want %q", asked, name, got, want)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q: pages of other origins may read it", asked)
		}
	}
	for _, asked := range []string{"index.html", "../demo/index.html", "nothing"} {
		if w := serve(h, http.MethodGet, asked); w.Code != http.StatusNotFound {
			t.Errorf("%q: got %d, want 404", asked, w.Code)
		}
	}
	if w := serve(h, http.MethodPost, ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("POST: got %d", w.Code)
	}
	page := serve(h, http.MethodGet, "").Body.String()
	for _, inline := range []string{"<style", " style=", "onclick", "javascript:"} {
		if strings.Contains(page, inline) {
			t.Errorf("the page contains %s", inline)
		}
	}
}
