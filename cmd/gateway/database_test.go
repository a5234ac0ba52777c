package main

import (
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestGatewaysInDatabasesAreApart: gateways with one prefix in databases 0, 1 and 2 of one server
// hear neither each other's events nor each other's revocations, whichever way those come.
func TestGatewaysInDatabasesAreApart(t *testing.T) {
	addr := redistest.Start(t)
	type site struct {
		*serving
		page *testkit.Client
	}
	var sites []site
	for _, database := range []string{"0", "1", "2"} {
		s := startServe(t, addr, environment{"ORGCAST_REDIS": "redis://" + addr + "/" + database})
		s.expectReady()
		testkit.Eventually(t, "the control channel is heard", func() bool {
			_, metrics := s.ask("GET", "/metrics", "")
			return strings.Contains(metrics, "orgcast_control_up 1")
		})
		sites = append(sites, site{s, s.subscribe(testkit.DialTCP(s.public), "ada", "acme")})
	}
	for i, s := range sites {
		event := func(way string) string {
			return `{"organization_id":"acme","type":"note","way":"` + way + `","database":` + string(rune('0'+i)) + `}`
		}
		for way, args := range map[string][]string{"command": nil, "recorded": {"--record"}} {
			if _, errOut, err := execute(t, s.env, "", append(append([]string{"publish"}, args...), "acme", "all", event(way))...); err != nil {
				t.Fatalf("publish: %v\n%s", err, errOut)
			}
			s.page.Expect(t, event(way)) // and none of another database before it
		}
		if status, body := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","event":`+event("HTTP")+`}`); status != 200 {
			t.Fatalf("POST /v1/publish: got %d %s", status, body)
		}
		s.page.Expect(t, event("HTTP"))
	}
	for i, s := range sites[1:] {
		if _, errOut, err := execute(t, s.env, "", "revoke", "organization", "acme"); err != nil {
			t.Fatalf("revoke: %v\n%s", err, errOut)
		}
		s.page.ExpectClose(t, 4403)
		expectPong(t, sites[0].page)
		if i == 0 {
			expectPong(t, sites[2].page)
		}
	}
}
