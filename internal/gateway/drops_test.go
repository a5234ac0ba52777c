package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestDropsAreLoggedPerOrganization: an organization whose browsers lose thousands of events has
// few lines about that in the log, and they do not hide another's.
func TestDropsAreLoggedPerOrganization(t *testing.T) {
	for i, policy := range consumer.WhenFullNames() {
		reason := []string{"too_slow", "drop_oldest", "latest"}[i]
		t.Run(policy, func(t *testing.T) {
			log, logs := observed()
			h := &hooks{connect: joining("a")}
			route := h.route("/ws/" + policy)
			route.WhenFull = consumer.WhenFull(i)
			n := startNode(t, setup{log: log, routes: []consumer.Route{route}, options: gateway.Options{
				QueueBytes: 64 << 10, WriteTimeout: time.Minute, CloseTimeout: testkit.Patience,
			}})
			began := time.Now()
			for _, org := range []string{"acme", "globex"} {
				for range 3 {
					n.connectSlow(route.Pattern, "ada", org, nil)
				}
				events, before := newNumbers(t), n.dropped(reason)
				for i := 0; n.dropped(reason) < before+3; i++ {
					if i == 10000 {
						t.Fatal("no event was dropped")
					}
					n.hub.Deliver(events.event(mustGroup(t, org, "a"), "note", 8000))
				}
			}
			most := 1 + int(time.Since(began)/(10*time.Second))
			for _, org := range []string{"acme", "globex"} {
				lines := 0
				for _, line := range logs.FilterMessage("deliveries dropped").All() {
					f := line.ContextMap()
					if f["organization_id"] != org { // the other one
						continue
					}
					if lines++; f["reason"] != reason || f["route"] != route.Pattern || fmt.Sprint(f["count"]) == "0" {
						t.Errorf("%s: got %v, want the reason %s, the route and a count", org, f, reason)
					}
				}
				if lines == 0 || lines > most {
					t.Errorf("%s: got %d lines, want 1 to %d", org, lines, most)
				}
			}
		})
	}
}
