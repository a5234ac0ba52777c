package clients_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// front stands between the clients and the gateway, and does to a call what the first part of its path
// says: direct passes it on; lossy passes it on and loses the answer the first time; busy, page and
// elsewhere give their own answers; silent gives none; published waits until what
// was published has arrived.
type front struct {
	*httptest.Server
	gateway string
	// beforeRevoking is closed once revocations may be passed on: what was published has arrived.
	beforeRevoking chan struct{}

	mu       sync.Mutex
	attempts map[string]int // path and body → how often it came
}

func startFront(t *testing.T, privateAddr string) *front {
	t.Helper()
	f := &front{gateway: "http://" + privateAddr, beforeRevoking: make(chan struct{}), attempts: make(map[string]int)}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// count notes an attempt and returns how many of the same call there were.
func (f *front) count(path string, body []byte) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts[path+" "+string(body)]++
	return f.attempts[path+" "+string(body)]
}

// total returns how often calls came by a way that hold the text.
func (f *front) total(way, text string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for call, attempts := range f.attempts {
		if strings.HasPrefix(call, "/"+way+"/") && strings.Contains(call, text) {
			n += attempts
		}
	}
	return n
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	attempt := f.count(r.URL.Path, body)
	way, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch way {
	case "direct":
		f.pass(w, r, path, body)
	case "lossy":
		if attempt > 1 {
			f.pass(w, r, path, body)
			return
		}
		f.pass(httptest.NewRecorder(), r, path, body)
		panic(http.ErrAbortHandler)
	case "busy":
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"results":[{"status":"failed","code":"unavailable"}]}`)
	case "page":
		_, _ = io.WriteString(w, "<!doctype html><title>Sign in</title>")
	case "elsewhere":
		http.Redirect(w, r, "/trap/"+path, http.StatusTemporaryRedirect)
	case "published": // answers once revocations may be made
		<-f.beforeRevoking
	case "silent":
		<-r.Context().Done()
	default:
		http.NotFound(w, r)
	}
}

// pass asks the gateway.
func (f *front) pass(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	if path == "v1/revoke" {
		select {
		case <-f.beforeRevoking:
		case <-r.Context().Done():
			return
		}
	}
	request, err := http.NewRequestWithContext(r.Context(), r.Method, f.gateway+"/"+path, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	request.Header = r.Header.Clone()
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}
