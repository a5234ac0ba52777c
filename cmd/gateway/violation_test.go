package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// housebreaker is a mutant: with each frame that it gets it puts an event of another organization
// into its own connection's queue, as a fault in hub or consumer could at worst.
type housebreaker struct{ tb testing.TB }

func (housebreaker) Connect(context.Context, consumer.Conn) error     { return nil }
func (housebreaker) Disconnect(context.Context, consumer.Conn, error) {}
func (h housebreaker) Receive(_ context.Context, c consumer.Conn, _ event.RawMessage) error {
	org, err := orgctx.ParseID("globex")
	if err != nil {
		return err
	}
	group, err := event.NewGroup(org, "all")
	if err != nil {
		return err
	}
	foreign, err := event.Decode(group, `{"organization_id":"globex","type":"secret"}`, 1<<10, time.Now())
	if err != nil {
		return err
	}
	m, ok := c.(hub.Member)
	if !ok {
		h.tb.Error("a connection is not a hub.Member")
		return nil
	}
	m.Offer(foreign.Alone())
	m.Flush()
	return nil
}

// TestIsolationViolationMakesTheNodeUnready: from the first violation that is counted on the node reports
// itself not ready, until it restarts, and says so once. It goes on serving. With
// --on-violation=count it only counts.
func TestIsolationViolationMakesTheNodeUnready(t *testing.T) {
	redisAddr := redistest.Start(t)
	for name, tt := range map[string]struct {
		env    environment
		status int
		report string
		logged string
	}{
		"by default": {nil, http.StatusServiceUnavailable, `"isolation":"an isolation violation was counted`, "not ready until a restart"},
		"unready":    {environment{"ORGCAST_ON_VIOLATION": "unready"}, http.StatusServiceUnavailable, `"isolation":"an isolation violation was counted`, "not ready until a restart"},
		"count":      {environment{"ORGCAST_ON_VIOLATION": "count"}, http.StatusOK, `"isolation":"ok"`, "staying ready"},
	} {
		t.Run(name, func(t *testing.T) {
			mutant := consumer.Route{Pattern: "/ws/housebreaker", New: func() consumer.OrganizationAwareConsumer { return housebreaker{t} }}
			s := startServe(t, redisAddr, tt.env, mutant)
			s.expectReady()
			if _, report := s.ask(http.MethodGet, "/readyz", ""); !strings.Contains(report, `"isolation":"ok"`) {
				t.Errorf("before: got %s", report)
			}
			other := s.subscribe(testkit.DialTCP(s.public), "alan", "acme")
			for range 2 {
				h := s.mint("ada", "acme")
				h.Path = "/ws/housebreaker"
				c := testkit.Connect(t, testkit.DialTCP(s.public), h)
				if err := c.SendText("{}"); err != nil {
					t.Fatal(err)
				}
				if frames, _ := c.ExpectClose(t, 1011); len(frames) > 0 {
					t.Errorf("got %q, want no event", frames)
				}
			}
			if status, report := s.ask(http.MethodGet, "/readyz", ""); status != tt.status || !strings.Contains(report, tt.report) {
				t.Errorf("got %d %s, want %d and %s", status, report, tt.status, tt.report)
			}
			if status, _ := s.ask(http.MethodGet, "/healthz", ""); status != http.StatusOK {
				t.Errorf("/healthz: got %d, want 200", status)
			}
			if got := strings.Count(s.log.String(), tt.logged); got != 1 {
				t.Errorf("the log says %q %d times, want once", tt.logged, got)
			}
			expectPong(t, other)
			if _, metrics := s.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, "orgcast_isolation_violations_total 2\n") {
				t.Error("two violations are not counted")
			}
		})
	}
	again := startServe(t, redisAddr, nil) // a restart is ready again
	again.expectReady()
}
