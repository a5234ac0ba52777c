package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
	"orgcast/internal/tracing"
)

// watching remembers what it hears.
type watching struct {
	mu    sync.Mutex
	heard []string
}

var _ gateway.Observer = (*watching)(nil)

func (o *watching) add(c gateway.Observed, words ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = append(o.heard, strings.Join(append([]string{c.Organization.String(), c.UserID}, words...), " "))
	if c.ID == "" {
		o.heard = append(o.heard, "no id")
	}
}

func (o *watching) Connected(c gateway.Observed)                  { o.add(c, "connected") }
func (o *watching) Disconnected(c gateway.Observed, cause string) { o.add(c, "disconnected", cause) }
func (o *watching) ToldGap(c gateway.Observed, g event.Group)     { o.add(c, "gap", g.Name()) }

// all returns what it has heard.
func (o *watching) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.heard, ", ")
}

// TestObserver hears of connections that are served, with causes, and of gaps that a client was told
// of; nothing of handshakes that are refused, and of no gap of a client that is not told.
func TestObserver(t *testing.T) {
	o := new(watching)
	n := startNode(t, setup{options: gateway.Options{Observer: o}})
	expect := func(want string) {
		t.Helper()
		testkit.Eventually(t, want, func() bool { return o.all() == want })
	}
	if _, answer := testkit.Try(t, n.dial, n.handshake("/ws/events", "eve", "globex", nil)); answer.Status < http.StatusBadRequest {
		t.Fatalf("a stranger: got %d", answer.Status)
	}
	ada := n.connectAs("/ws/events", "orgcast.v1", "ada", "acme")
	expect("acme ada connected")
	if err := ada.SendText(`{"type":"subscribe","group":"all"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := ada.Next(); err != nil {
		t.Fatal(err)
	}
	alan := n.subscribe("alan", "acme", "all") // without the subprotocol
	expect("acme ada connected, acme alan connected")
	n.hub.Gap(mustGroup(t, "acme", "all"))
	if gap, err := ada.Next(); err != nil || !strings.Contains(gap, `"gap"`) {
		t.Fatalf("got %s, %v", gap, err)
	}
	expect("acme ada connected, acme alan connected, acme ada gap all")
	if err := ada.Send(testkit.CloseFrame(1000, "")); err != nil {
		t.Fatal(err)
	}
	expect("acme ada connected, acme alan connected, acme ada gap all, acme ada disconnected closed_by_peer")
	if err := alan.Send(testkit.Frame{Opcode: 1, Payload: []byte("\xff")}); err != nil {
		t.Fatal(err)
	}
	expect("acme ada connected, acme alan connected, acme ada gap all, acme ada disconnected closed_by_peer, acme alan disconnected text_is_not_UTF-8")
}

// TestReloadKeepsWhoWatches: after a reload, new connections are observed and traced as before.
func TestReloadKeepsWhoWatches(t *testing.T) {
	var mu sync.Mutex
	var spans strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&spans, r.Body)
	}))
	t.Cleanup(collector.Close)
	options, err := tracing.FromEnvironment(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": "always_on"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	tracer := tracing.New(options, tracing.Parts{})
	o := new(watching)
	n := startNode(t, setup{options: gateway.Options{Observer: o, Tracer: tracer}})
	apply, err := n.gateway.PrepareReload(gateway.Options{Origins: mustOrigins(t)})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	ada := n.subscribe("ada", "acme", "all")
	testkit.Eventually(t, "the observer hears of it", func() bool { return o.all() == "acme ada connected" })
	_ = ada.Close()
	n.stop() // the span ends after the browser has its first frame
	if err := tracer.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(spans.String(), "handshake") {
		t.Errorf("no span of a handshake after the reload: got %d bytes", spans.Len())
	}
}

func mustOrigins(tb testing.TB) gateway.Origins {
	tb.Helper()
	origins, err := gateway.ParseOrigins([]string{origin})
	if err != nil {
		tb.Fatal(err)
	}
	return origins
}

// TestCausesInTheDocs: docs/webhooks.md names causes that exist, and every cause of an end has a name.
func TestCausesInTheDocs(t *testing.T) {
	if slices.Contains(gateway.Endings(), "") {
		t.Errorf("a cause has no name: %q", gateway.Endings())
	}
	page, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)^`cause` is the name .*, such as (.*)\\.$").FindSubmatch(page)
	if line == nil {
		t.Fatal("docs/webhooks.md has no causes")
	}
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(string(line[1]), -1) {
		if !slices.Contains(gateway.Endings(), name[1]) {
			t.Errorf("docs/webhooks.md: %s is not a cause", name[1])
		}
	}
}
