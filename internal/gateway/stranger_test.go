package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// explaining is a route that upgrades refusals to say why.
func explaining(pattern string) consumer.Route {
	route := (&hooks{}).route(pattern)
	route.Explain = true
	return route
}

// TestExplainedRefusalsCount: a stranger whose refusal is explained has a socket and a goroutine of the node,
// until it answers the close frame. The limit of the node, the metrics and the drain know of it.
func TestExplainedRefusalsCount(t *testing.T) {
	n := startNode(t, setup{routes: []consumer.Route{explaining("/ws/explain")}, options: gateway.Options{MaxConnections: 16, CloseTimeout: time.Hour}})
	stranger := n.handshake("/ws/explain", "ada", "acme", http.Header{"Cookie": nil})
	var silent []*testkit.Client
	for range 2 { // an eighth of the places, so that strangers never take them all
		silent = append(silent, testkit.Connect(t, n.dial, stranger))
	}
	n.expectConnections(2)
	n.expectMetric(2, "orgcast_connections")
	n.expectRefused(t, stranger, 401, "unauthenticated", false) // as on routes that do not explain
	n.expectMetric(3, "orgcast_connections_refused_total", "reason=unauthenticated")
	if got := n.metric("orgcast_handshake_seconds"); got != 0 {
		t.Errorf("accepted handshakes: got %v, want 0", got)
	}
	for range 14 {
		n.connect("/ws/events", "ada", "acme")
	}
	if n.metric("orgcast_handshake_seconds") == 0 {
		t.Error("time of accepted handshakes: got 0")
	}
	n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "overloaded", true)

	over, cancel := context.WithCancel(context.Background())
	silent[0].ExpectClose(t, 4401) // answers
	n.expectConnections(15)
	n.connectSoon("ada", "acme")
	cancel()
	if err := n.gateway.Drain(over, 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Drain: got %v, want context.Canceled, or nil if all sockets were gone at once", err)
	}
}

// TestDrainWaitsForExplainedRefusals: a drain waits for the last socket, even that of a stranger.
func TestDrainWaitsForExplainedRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const closeTimeout = 5 * time.Second
		n := startNode(t, setup{
			routes: []consumer.Route{explaining("/ws/explain")}, options: gateway.Options{CloseTimeout: closeTimeout}, pipe: testkit.Listen(), now: time.Now,
		})
		p := follow(testkit.Connect(t, n.dial, n.handshake("/ws/explain", "ada", "acme", http.Header{"Cookie": nil})), false)
		synctest.Wait()
		began := time.Now()
		if err := n.gateway.Drain(t.Context(), 0); err != nil {
			t.Errorf("Drain: got %v, want nil", err)
		}
		if got := time.Since(began); got != closeTimeout {
			t.Errorf("the drain took %v, want %v: until the silent stranger is cut off", got, closeTimeout)
		}
		n.expectEmpty()
		<-p.stopped
		// And the end of everything waits for no stranger.
		q := testkit.Listen()
		last := startNode(t, setup{
			routes: []consumer.Route{explaining("/ws/explain")}, options: gateway.Options{CloseTimeout: closeTimeout}, pipe: q, now: time.Now,
		})
		p = follow(testkit.Connect(t, q.Dial, last.handshake("/ws/explain", "ada", "acme", http.Header{"Cookie": nil})), false)
		synctest.Wait()
		began = time.Now()
		last.stop()
		if got := time.Since(began); got != 0 {
			t.Errorf("the end took %v, want none", got)
		}
		<-p.stopped
		n.stop()
		synctest.Wait()
	})
}

// TestLittleIsReadOfTheRefused: a stranger who was told why, and goes on sending as fast as a socket takes it, is
// cut off after some KiB and not only at the deadline.
func TestLittleIsReadOfTheRefused(t *testing.T) {
	const most = 64 << 10
	pipe := testkit.Listen() // has no buffers: what was written was read
	n := startNode(t, setup{routes: []consumer.Route{explaining("/ws/explain")}, pipe: pipe, options: gateway.Options{CloseTimeout: time.Hour}})
	c := testkit.Connect(t, n.dial, n.handshake("/ws/explain", "ada", "acme", http.Header{"Cookie": nil}))
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, err := c.ReadFrame(); err != nil {
				return
			}
		}
	})
	chunk := testkit.Frame{Opcode: testkit.OpText, Payload: make([]byte, 4<<10)}.Bytes()
	read := 0
	for read <= 2*most {
		k, err := c.Write(chunk)
		read += k
		if err != nil {
			break
		}
	}
	if read > most {
		t.Errorf("%d bytes were read, want at most %d", read, most)
	}
	_ = c.Close()
	reading.Wait()
}

// TestRefusalsAreSampledInTheLog: a stranger connects at full speed. Every refusal is counted, and some are logged.
func TestRefusalsAreSampledInTheLog(t *testing.T) {
	const knocks = 3000
	out := new(strings.Builder)
	panics := &hooks{connect: func(context.Context, consumer.Conn) error { panic("boom") }}
	n := startNode(t, setup{
		options: gateway.Options{HandshakesPerSecond: 4 * knocks, CloseTimeout: 100 * time.Millisecond}, log: logTo(out),
		routes: []consumer.Route{explaining("/ws/explain"), panics.route("/ws/panics")},
	})
	began := time.Now()
	for reason, h := range map[string]testkit.Handshake{
		"origin":          n.handshake("/ws/events", "ada", "acme", http.Header{"Origin": {"https://evil.test"}}),
		"unknown_path":    n.handshake("/ws/nothing", "ada", "acme", nil),
		"overloaded":      n.handshake("/ws/events", "ada", "down", nil),
		"unauthenticated": n.handshake("/ws/events", "ada", "acme", http.Header{"Cookie": nil}),
		"internal":        n.handshake("/ws/panics", "ada", "acme", nil),
	} {
		for range knocks {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, h.Path, nil)
			r.Header = h.Header.Clone()
			for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
			n.gateway.ServeHTTP(httptest.NewRecorder(), r)
		}
		refused := n.metric("orgcast_connections_refused_total", "reason="+reason)
		if refused+n.metric("orgcast_connections_refused_total", "reason=handshake_rate") < knocks || refused == 0 {
			t.Errorf("%s: %v counted, want every one of %d", reason, refused, knocks)
		}
	}
	n.stop()
	most := 11 + int(time.Since(began)/time.Second) // ten at once, one a second
	for _, mark := range []string{`"reason":"origin"`, `"reason":"unknown_path"`, `"reason":"overloaded"`, `"reason":"unauthenticated"`, `"reason":"internal"`} {
		got := 0
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, mark) {
				got++
			}
		}
		if got == 0 || got > most {
			t.Errorf("%s: got %d lines of %d, want 1 to %d", mark, got, knocks, most)
		}
	}
}

// TestSampler: ten lines of a kind at once, one a second in the long run, and the next one says how many are missing.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(gateway.Sampler)
		passed := 0
		for range 100 {
			if _, ok := s.Allow("origin"); ok {
				passed++
			}
		}
		if _, ok := s.Allow("unknown_path"); passed != 10 || !ok {
			t.Errorf("got %d of 100 at once, and one of another kind %t, want 10 and true", passed, ok)
		}
		time.Sleep(time.Second)
		if suppressed, ok := s.Allow("origin"); suppressed != 90 || !ok {
			t.Errorf("a second later: got %d suppressed, %t, want 90 and true", suppressed, ok)
		}
		if _, ok := s.Allow("origin"); ok {
			t.Error("two in one second")
		}
	})
}
