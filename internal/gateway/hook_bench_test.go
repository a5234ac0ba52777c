package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/hook"
	"orgcast/internal/outgoing"
	"orgcast/internal/routefile"
	"orgcast/internal/testkit"
)

// startHooked starts a node with a route /ws/plain/7/ and one, /ws/hooked/7/, that a hook decides about, and returns what
// the hook is called by.
func startHooked(b *testing.B, answer http.HandlerFunc) (*node, *outgoing.Endpoint) {
	b.Helper()
	server := httptest.NewServer(answer)
	b.Cleanup(server.Close)
	client := outgoing.New(outgoing.Options{Registerer: prometheus.NewRegistry()})
	b.Cleanup(client.Close)
	endpoint, err := client.Endpoint(outgoing.EndpointOptions{Purpose: "hook", URL: server.URL, Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	const route = "  - path: /ws/%s/{id:int}/\n    who: member\n    groups: [\"%[1]s_{id}\"]\n"
	declared, err := routefile.Parse([]byte("version: 1\nroutes:\n" + fmt.Sprintf(route, "plain") + fmt.Sprintf(route, "hooked") +
		"    hook: {url: \"http://h/\", key-file: k, on: [connect]}\n"))
	if err != nil {
		b.Fatal(err)
	}
	declared[1].Declaration.Hook = hook.New(hook.Options{Path: "/ws/hooked/", Endpoint: endpoint, On: declared[1].Hook.On, Log: zap.NewNop()})
	var routes []consumer.Route
	for i := range declared {
		routes = append(routes, declared[i].Route(consumer.DeclaredServices{}))
	}
	return startNode(b, setup{routes: routes, options: gateway.Options{CloseTimeout: 100 * time.Millisecond, HookTimeout: testkit.Patience}}), endpoint
}

// stopwatch notes how long things take.
type stopwatch map[string][]time.Duration

func (s stopwatch) measure(what string, do func()) {
	begun := time.Now()
	do()
	s[what] = append(s[what], time.Since(begun))
}

// median returns the median in microseconds.
func (s stopwatch) median(what string) float64 {
	slices.Sort(s[what])
	return float64(s[what][len(s[what])/2].Microseconds())
}

// BenchmarkHookConnect connects in turn without a hook and with one that takes 5 ms, and calls that hook alone. It
// reports the medians, and what the hook adds to a handshake in relation to such a call.
func BenchmarkHookConnect(b *testing.B) {
	n, endpoint := startHooked(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(5 * time.Millisecond)
		_, _ = io.WriteString(w, `{}`)
	})
	plain, hooked := n.handshake("/ws/plain/7/", "ada", "acme", nil), n.handshake("/ws/hooked/7/", "ada", "acme", nil)
	call := outgoing.Call{Organization: mustGroup(b, "acme", "x").Organization(), ID: "x", Body: []byte(strings.Repeat("x", 200))} // as long as a question
	took := make(stopwatch)
	b.ResetTimer()
	for b.Loop() {
		took.measure("plain", func() { _ = testkit.Connect(b, n.dial, plain).Close() })
		took.measure("hooked", func() { _ = testkit.Connect(b, n.dial, hooked).Close() })
		took.measure("call", func() {
			if _, err := endpoint.Post(b.Context(), call); err != nil {
				b.Fatal(err)
			}
		})
	}
	for _, what := range []string{"plain", "hooked", "call"} {
		b.ReportMetric(took.median(what), "us/"+what)
	}
	b.ReportMetric((took.median("hooked")-took.median("plain"))/took.median("call"), "added/call")
}

// BenchmarkConnectBesideStuckHook connects members of one organization through a hook that does not answer for another
// organization, of which 100 members wait for it, and reports the ratio to the same without them.
func BenchmarkConnectBesideStuckHook(b *testing.B) {
	n, _ := startHooked(b, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"organization_id":"acme"`) {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{}`)
	})
	quiet := n.handshake("/ws/hooked/7/", "ada", "globex", nil)
	connect := func() { _ = testkit.Connect(b, n.dial, quiet).Close() }
	took := make(stopwatch)
	for range 200 {
		took.measure("alone", connect)
	}
	stuck := n.handshake("/ws/hooked/7/", "ada", "acme", nil)
	var waiting sync.WaitGroup
	for range 100 {
		socket, err := n.dial(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := socket.Write(stuck.Bytes()); err != nil {
			b.Fatal(err)
		}
		waiting.Go(func() { _, _ = io.Copy(io.Discard, socket) })
		b.Cleanup(waiting.Wait)
		b.Cleanup(func() { _ = socket.Close() })
	}
	b.ResetTimer()
	for b.Loop() {
		took.measure("beside", connect)
	}
	b.ReportMetric(took.median("alone"), "us/alone")
	b.ReportMetric(took.median("beside"), "us/beside")
	b.ReportMetric(took.median("beside")/took.median("alone"), "ratio")
}
