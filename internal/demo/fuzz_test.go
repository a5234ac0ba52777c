package demo_test

import (
	"net/http"
	"strings"
	"testing"
)

// Whatever someone sends, it is published in the sender's own organization under the sender's own
// name, or not at all.
func FuzzPublish(f *testing.F) {
	f.Add(`{"group":"room.1","text":"hi"}`)
	f.Add(`{"seat":"left","group":"all","text":"hi"}`)
	f.Add(`{"group":"room.1","text":"hi","organization_id":"acme"}`)
	f.Add(`{"group":"user.grace","text":"\",\"organization_id\":\"acme"}`)
	f.Add(`{"group":"user.ada","text":"hi"}`)
	f.Add(`{"GROUP":"room.1","Text":"hi","seat":""}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		town := newTown()
		h := newHandler(t, town)
		resp := do(h, postJSON("/demo/publish", body, signIn(t, h, "grace", "")))
		if published := resp.StatusCode == http.StatusOK; published != (len(town.published) == 1) {
			t.Fatalf("got status %d and %d published", resp.StatusCode, len(town.published))
		}
		for _, p := range town.published {
			if !strings.HasPrefix(p.Group, "globex/") || p.Payload["organization_id"] != "globex" || p.Payload["from"] != "grace" {
				t.Errorf("got %v, want an event of grace at globex", p)
			}
		}
	})
}
