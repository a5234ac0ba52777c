package main

import (
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestRedisRefusesWrites: a Redis that answers but does not write, for want of memory or after a
// failed snapshot, keeps no event from anyone, no organization's first member out, and no
// revocation from taking effect; what it could not record is said.
func TestRedisRefusesWrites(t *testing.T) {
	for _, state := range redistest.States() {
		t.Run("of sessions with "+string(state), func(t *testing.T) {
			s := startSplit(t, nil)
			expectDegraded(t, s.serving, s.state, state)
		})
	}
	// These keep neither canaries nor anything else of the subscription from passing.
	for _, state := range []redistest.State{redistest.OutOfMemory, redistest.TooFewReplicas} {
		t.Run("of everything with "+string(state), func(t *testing.T) {
			s := startSplit(t, nil)
			together := startServe(t, s.state.Addr, environment{
				"ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis", "ORGCAST_LEASE_PERIOD": "500ms",
			})
			together.expectReady()
			expectDegraded(t, together, s.state, state)
		})
	}
}

func expectDegraded(t *testing.T, s *serving, server *redistest.Server, state redistest.State) {
	t.Helper()
	dial := testkit.DialTCP(s.public)
	page, globex := s.subscribe(dial, "ada", "acme"), s.mint("ada", "globex")
	server.RefuseWrites(state)

	const event = `{"organization_id":"acme","type":"note"}`
	if _, errOut, err := execute(t, s.env, "", "publish", "acme", "all", event); err != nil {
		t.Errorf("publish: %v\n%s", err, errOut)
	}
	page.Expect(t, event)
	first, answer := testkit.Try(t, dial, globex)
	if want := map[bool]int{true: 503, false: 101}[state.ReadsRefused()]; answer.Status != want {
		t.Errorf("first connection of an organization: got %d %s, want %d", answer.Status, answer.Body, want)
	}
	if n := s.metric("orgcast_quota_unrecorded_total", ""); n != 1 && !state.ReadsRefused() {
		t.Errorf("connections without a record: got %v, want 1", n)
	}

	status, body := s.ask("POST", "/v1/revoke", `{"type":"organization.suspended","organization_id":"acme"}`)
	if status != 503 || !strings.HasPrefix(body, `{"status":"failed","code":"not_recorded","message":"`) {
		t.Errorf("POST /v1/revoke: got %d %s, want 503 not_recorded", status, body)
	}
	page.ExpectClose(t, 4403)
	_, errOut, err := execute(t, s.env, "", "revoke", "user", "ada")
	if err == nil || !strings.Contains(err.Error(), "announced, but not recorded") || !strings.Contains(err.Error(), string(state)) {
		t.Errorf("revoke: got %v, %s, want that it was not recorded", err, errOut)
	}
	if first != nil {
		first.ExpectClose(t, 4403)
	}
	// A Redis that is loading answers now and then only, which may take too long for one question.
	testkit.Eventually(t, "the node is ready", func() bool {
		status, _ := s.ask("GET", "/readyz", "")
		return status == 200
	})

	server.Heal()
	testkit.Eventually(t, "pages come back", func() bool {
		_, answer := testkit.Try(t, dial, globex)
		return answer.Status == 101
	})
	if out, errOut, err := execute(t, s.env, "", "revoke", "user", "ada"); err != nil || out != "revoked and announced\n" {
		t.Errorf("revoke, again: got %q, %v\n%s", out, err, errOut)
	}
	if _, answer := testkit.Try(t, dial, globex); answer.Status != 403 {
		t.Errorf("handshake of a user who was disabled: got %d %s, want 403", answer.Status, answer.Body)
	}
}
