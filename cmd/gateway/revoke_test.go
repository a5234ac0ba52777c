package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestRevoke: the command and the private listener end connections, and nobody comes back.
func TestRevoke(t *testing.T) {
	addr := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	s := startServe(t, addr, environment{"ORGCAST_DIRECTORY": "redis", "ORGCAST_LEASE_PERIOD": "1h", "ORGCAST_LEASE_DEADLINE": "2h"})
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	seed := func(tb testing.TB) {
		tb.Helper()
		for _, key := range []string{"orgcast:{acme}:org", "orgcast:{acme}:member:ada", "orgcast:{acme}:member:alan"} {
			if err := client.HSet(tb.Context(), key, "status", "active").Err(); err != nil {
				tb.Fatal(err)
			}
		}
		client.Del(tb.Context(), "orgcast:user-disabled:ada")
	}
	tests := map[string]struct {
		args   []string // ID is the session's
		body   string
		code   int
		alan   bool // ends too
		status int  // of the next handshake
	}{
		"session":      {[]string{"session", "--", "ID"}, `{"type":"session.ended","session_id":"ID"}`, 4401, false, 401},
		"user":         {[]string{"user", "ada"}, `{"type":"user.disabled","user_id":"ada"}`, 4403, false, 403},
		"member":       {[]string{"member", "acme", "ada"}, `{"type":"member.removed","organization_id":"acme","user_id":"ada"}`, 4403, false, 403},
		"organization": {[]string{"organization", "acme"}, `{"type":"organization.suspended","organization_id":"acme"}`, 4403, true, 403},
	}
	for name, test := range tests {
		for _, way := range []string{"command", "HTTP"} {
			t.Run(name+" by "+way, func(t *testing.T) {
				seed(t)
				handshake := s.mint("ada", "acme")
				ada, alan := testkit.Connect(t, dial, handshake), s.subscribe(dial, "alan", "acme")
				fill := strings.NewReplacer("ID", s.sessionID(handshake)).Replace
				if way == "HTTP" {
					if status, body := s.ask("POST", "/v1/revoke", fill(test.body)); status != 200 || strings.TrimSpace(body) != `{"status":"revoked"}` {
						t.Errorf("POST /v1/revoke: got %d %s, want 200 revoked", status, body)
					}
				} else {
					args := []string{"revoke"}
					for _, a := range test.args {
						args = append(args, fill(a))
					}
					if out, errOut, err := execute(t, s.env, "", args...); err != nil || out != "revoked and announced\n" {
						t.Errorf("%v: got %q, %v\n%s", args, out, err, errOut)
					}
				}
				ada.ExpectClose(t, test.code)
				if test.alan {
					alan.ExpectClose(t, 4403)
				} else {
					_ = alan.SendText(`{"type":"ping"}`)
					alan.Expect(t, `{"type":"pong"}`)
				}
				if _, answer := testkit.Try(t, dial, handshake); answer.Status != test.status {
					t.Errorf("next handshake: got %d %s, want %d", answer.Status, answer.Body, test.status)
				}
			})
		}
	}
	for _, body := range []string{
		`{"type":"member.role","organization_id":"acme","user_id":"ada","role":"admin"}`,
		`{"type":"organization.switched","session_id":"x","organization_id":null}`,
	} {
		if status, answer := s.ask("POST", "/v1/revoke", body); status != 200 || strings.TrimSpace(answer) != `{"status":"announced"}` {
			t.Errorf("%s: got %d %s, want 200 announced", body, status, answer)
		}
	}
	for body, want := range map[string]string{
		`{"type":"session.ended"}`: "400 refused bad_request", `{`: "400 refused bad_request", `{"type":"new.type"}`: "400 refused bad_request",
		`{"type":"session.ended","session_id":"` + strings.Repeat("x", 2000) + `"}`: "400 refused bad_request",
	} {
		status, answer := s.ask("POST", "/v1/revoke", body)
		fields := strings.Fields(want)
		if fields[0] != strconv.Itoa(status) || !strings.Contains(answer, fields[1]) || !strings.Contains(answer, fields[2]) {
			t.Errorf("%.60s: got %d %s, want %s", body, status, answer, want)
		}
	}
	for name, args := range map[string][]string{
		"nothing": {"revoke"}, "unknown kind": {"revoke", "cookie", "x"}, "bad session": {"revoke", "session", "a:b"}, "bad user": {"revoke", "user", ""},
		"all members": {"revoke", "member", "acme"}, "member of nothing": {"revoke", "member", "", "ada"}, "bad organization": {"revoke", "organization", "a b"},
	} {
		if _, _, err := execute(t, s.env, "", args...); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	for _, args := range [][]string{{"revoke", "--directory", "session", "organization", "acme"}, {"revoke", "organization", "--directory", "session", "acme"}} {
		if out, _, err := execute(t, s.env, "", args...); err != nil || !strings.HasPrefix(out, "announced only") {
			t.Errorf("%v: got %q, %v, want announced only", args, out, err)
		}
	}
}

// TestRevokeNeedsTheKey: nobody on the private network revokes without it.
func TestRevokeNeedsTheKey(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_PUBLISH_KEY": strings.Repeat("k", 32)})
	if status, body := s.ask("POST", "/v1/revoke", `{"type":"user.disabled","user_id":"ada"}`); status != 401 || !strings.Contains(body, "unauthenticated") {
		t.Errorf("with another key: got %d %s, want 401", status, body)
	}
	without := startServe(t, redistest.Start(t), environment{"ORGCAST_PUBLISH_KEY": ""})
	if status, _ := without.ask("POST", "/v1/revoke", `{}`); status != 404 {
		t.Errorf("without a key: got %d, want 404", status)
	}
}
