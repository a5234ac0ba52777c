package outgoing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/outgoing"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const key = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// receive starts a receiver on 127.0.0.1.
func receive(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func newClient(tb testing.TB, networks ...string) *outgoing.Client {
	tb.Helper()
	o := outgoing.Options{Registerer: prometheus.NewRegistry()}
	for _, n := range networks {
		o.PrivateNetworks = append(o.PrivateNetworks, netip.MustParsePrefix(n))
	}
	c := outgoing.New(o)
	tb.Cleanup(c.Close)
	return c
}

func newEndpoint(tb testing.TB, c *outgoing.Client, o outgoing.EndpointOptions) *outgoing.Endpoint {
	tb.Helper()
	o.Purpose = "test"
	e, err := c.Endpoint(o)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func post(tb testing.TB, e *outgoing.Endpoint, org string) (outgoing.Answer, error) {
	tb.Helper()
	return e.Post(tb.Context(), outgoing.Call{Organization: testkit.Org(tb, org), ID: "m1", Body: []byte(`{"a":1}`)})
}

// TestPost: a call is signed, carries no cookie, and brings the answer whatever its status.
func TestPost(t *testing.T) {
	keys := mustKeys(t, key)
	s := receive(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := keys.Verify(r.Header, body, time.Now()); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s %v: %v", r.Method, r.Header, err)
		}
		if len(r.Cookies()) > 0 || r.Header.Get("Idempotency-Key") != "" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers: %v", r.Header)
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(body)
	})
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL, Keys: keys})
	answer, err := post(t, e, "acme")
	if err != nil || answer.Status != http.StatusForbidden || string(answer.Body) != `{"a":1}` {
		t.Errorf("got %d %q, %v", answer.Status, answer.Body, err)
	}
}

// TestNoRedirect: the answer of a receiver that redirects is the redirect.
func TestNoRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	target := receive(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	s := receive(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	answer, err := post(t, newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL}), "acme")
	if err != nil || answer.Status != http.StatusTemporaryRedirect || elsewhere.Load() != 0 {
		t.Errorf("got %d, %v; %d calls elsewhere", answer.Status, err, elsewhere.Load())
	}
}

// TestNoProxy: a proxy in the environment does not see calls.
func TestNoProxy(t *testing.T) {
	var seen atomic.Int32
	proxy := receive(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: "http://receiver.invalid/"})
	if _, err := post(t, e, "acme"); err == nil || seen.Load() != 0 {
		t.Errorf("got %v; the proxy saw %d calls", err, seen.Load())
	}
}

// TestEndlessAnswer: an answer without end, in its body or its header, is given up.
func TestEndlessAnswer(t *testing.T) {
	for what, h := range map[string]http.HandlerFunc{
		"body": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
		"header": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
			}
		},
		"interim answers": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Header().Set("Link", strings.Repeat("x", 1000))
				w.WriteHeader(http.StatusEarlyHints)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: receive(t, h).URL, Timeout: testkit.Patience})
			answer, err := post(t, e, "acme")
			if err == nil {
				t.Fatalf("got an answer of %d bytes", len(answer.Body))
			}
			if what == "body" && !errors.Is(err, outgoing.ErrTooLarge) {
				t.Errorf("got %v, want %v", err, outgoing.ErrTooLarge)
			}
			if errors.Is(err, outgoing.ErrTimeout) {
				t.Errorf("was read until the deadline")
			}
		})
	}
}

// TestSlowReceiver: one that takes its time, with the header or the body, is given up in time.
func TestSlowReceiver(t *testing.T) {
	for what, header := range map[string]bool{"no header": false, "no end of the body": true} {
		t.Run(what, func(t *testing.T) {
			s := receive(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not seen
				if header {
					_, _ = io.WriteString(w, "{")
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL, Timeout: 20 * time.Millisecond})
			if _, err := post(t, e, "acme"); !errors.Is(err, outgoing.ErrTimeout) {
				t.Errorf("got %v, want %v", err, outgoing.ErrTimeout)
			}
		})
	}
}

// TestDeadReceiver: after some failures in a row no call is made for a while; then one call tries.
func TestDeadReceiver(t *testing.T) {
	var calls atomic.Int32
	var healthy atomic.Bool
	s := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		if !healthy.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL})
	now := time.Unix(1_700_000_000, 0)
	e.SetClock(func() time.Time { return now })
	hammer := func() {
		for range 3 * outgoing.FailuresInARow {
			_, _ = post(t, e, "acme")
		}
	}
	hammer()
	if got := calls.Load(); got != outgoing.FailuresInARow {
		t.Fatalf("a dead receiver got %d calls, want %d", got, outgoing.FailuresInARow)
	}
	if _, err := post(t, e, "acme"); !errors.Is(err, outgoing.ErrCircuitOpen) {
		t.Errorf("got %v, want %v", err, outgoing.ErrCircuitOpen)
	}
	if a, err := post(t, e, "globex"); err != nil || a.Status != http.StatusBadGateway {
		t.Errorf("another organization: got %d, %v", a.Status, err)
	}
	now = now.Add(outgoing.OpenFor)
	calls.Store(0)
	hammer()
	if got := calls.Load(); got != 1 {
		t.Errorf("a receiver that may be back got %d calls, want 1", got)
	}
	now = now.Add(outgoing.OpenFor)
	healthy.Store(true)
	for range 3 {
		if a, err := post(t, e, "acme"); err != nil || a.Status != http.StatusOK {
			t.Errorf("back again: got %d, %v", a.Status, err)
		}
	}
	_, _ = post(t, e, "globex")
	if n := e.Known(); n != 0 {
		t.Errorf("%d organizations are remembered although nothing fails", n)
	}
}

// TestAbandonedCallIsNoFailure: a member who leaves while a call is under way cannot open the
// circuit.
func TestAbandonedCallIsNoFailure(t *testing.T) {
	arrived := make(chan struct{})
	var answer atomic.Bool
	s := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		if answer.Load() {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL, Timeout: testkit.Patience})
	left := errors.New("left")
	for range 2 * outgoing.FailuresInARow {
		ctx, leave := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { <-arrived; leave(left) })
		_, err := e.Post(ctx, outgoing.Call{Organization: testkit.Org(t, "acme"), ID: "m1"})
		if !errors.Is(err, outgoing.ErrAbandoned) || !errors.Is(err, left) {
			t.Fatalf("got %v", err)
		}
		wg.Wait()
	}
	answer.Store(true)
	if _, err := post(t, e, "acme"); err != nil {
		t.Errorf("got %v", err)
	}
}

// TestSlowCallsOfOneOrganization: an organization that has all its calls under way waits, and
// delays no other.
func TestSlowCallsOfOneOrganization(t *testing.T) {
	const limit = 3
	var under, most atomic.Int32
	release := make(chan struct{})
	s := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Webhook-Id") != "slow" {
			return
		}
		n := under.Add(1)
		defer under.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-release
	})
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL, Keys: mustKeys(t, key), PerOrganization: limit, Timeout: testkit.Patience})
	var wg sync.WaitGroup
	for range 4 * limit {
		wg.Go(func() {
			if _, err := e.Post(t.Context(), outgoing.Call{Organization: testkit.Org(t, "acme"), ID: "slow"}); err != nil {
				t.Errorf("one that waited for its turn: %v", err)
			}
		})
	}
	testkit.Eventually(t, "calls under way", func() bool { return under.Load() == limit })
	if _, err := post(t, e, "globex"); err != nil {
		t.Errorf("another organization: %v", err)
	}
	close(release)
	wg.Wait()
	if most.Load() != limit {
		t.Errorf("%d calls were under way at once, want %d", most.Load(), limit)
	}
	if n := e.Known(); n != 0 {
		t.Errorf("%d organizations are remembered although none has calls", n)
	}
}

// TestBusy: a call that does not get its turn in time is not made.
func TestBusy(t *testing.T) {
	var calls atomic.Int32
	release := make(chan struct{})
	s := receive(t, func(http.ResponseWriter, *http.Request) { calls.Add(1); <-release })
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL, PerOrganization: 1, Timeout: testkit.Patience})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = post(t, e, "acme") })
	testkit.Eventually(t, "one call under way", func() bool { return calls.Load() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := e.Post(ctx, outgoing.Call{Organization: testkit.Org(t, "acme")}); !errors.Is(err, outgoing.ErrBusy) {
		t.Errorf("got %v, want %v", err, outgoing.ErrBusy)
	}
	close(release)
	wg.Wait()
	if calls.Load() != 1 {
		t.Errorf("%d calls were made, want 1", calls.Load())
	}
}

// TestClosedConnection: a receiver that closed a waiting connection gets the call on another one,
// with the same id.
func TestClosedConnection(t *testing.T) {
	var calls atomic.Int32
	s := receive(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	e := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL})
	for range 3 {
		if _, err := post(t, e, "acme"); err != nil {
			t.Fatal(err)
		}
		s.CloseClientConnections()
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls arrived, want 3", calls.Load())
	}
}

func TestCheckURL(t *testing.T) {
	for text, good := range map[string]bool{
		"https://hooks.example.com/a?b=c": true, "http://10.0.0.1:8080/": true, "": false, "/path": false, "ftp://a/": false, "http://": false,
		"http://user:secret@a/": false, "http://a/#x": false, "http://:80/": false, "http://a b/": false, "http://a:port/": false,
	} {
		err := outgoing.CheckURL(text)
		if (err == nil) != good {
			t.Errorf("%q: got %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows the password: %v", text, err)
		}
	}
}
