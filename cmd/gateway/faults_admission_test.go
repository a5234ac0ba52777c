package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

// refusedWith returns how a handshake ends: a status, or the close code that explains it.
func (w *world) refusedWith(t *testing.T, h testkit.Handshake, path string) int {
	t.Helper()
	h.Path = path
	c, answer := testkit.Try(t, w.dial, h)
	if c == nil {
		return answer.Status
	}
	_, err := c.Next()
	if closed, ok := errors.AsType[*testkit.ClosedError](err); ok {
		return closed.Code
	}
	return answer.Status
}

func (w *world) membership(t *testing.T) {
	for _, v := range views() {
		for who, h := range map[string]testkit.Handshake{
			"stranger": w.mint("grace", "acme"), "removed": w.mint("eve", "acme"), "suspended": w.mint("ian", "initech"), "unknown": w.mint("ada", "nowhere"),
		} {
			if got := w.refusedWith(t, h, v.path); got != 4403 {
				t.Errorf("%s at %s: got %d, want 4403", who, v.path, got)
			}
		}
	}
}

// membershipEnds ends sessions and memberships of open connections.
func (w *world) membershipEnds(t *testing.T) {
	v := views()["research"].at("71")
	member := func(t *testing.T, org, status string) {
		t.Helper()
		for _, key := range []string{"orgcast:{" + org + "}:org", "orgcast:{" + org + "}:member:ada"} {
			if err := w.redis.HSet(t.Context(), key, "status", status).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	revoke := func(what ...string) func(t *testing.T, session testkit.Handshake) {
		return func(t *testing.T, session testkit.Handshake) {
			t.Helper()
			args := []string{"revoke"}
			for _, word := range what {
				if word == "SESSION" {
					word = w.sessionID(session)
				}
				args = append(args, word)
			}
			if _, errOut, err := execute(t, w.env, "", args...); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, errOut)
			}
		}
	}
	for what, test := range map[string]struct {
		happens func(t *testing.T, session testkit.Handshake)
		code    int
		back    int // what who comes back with the same session gets; 0 is the door open
	}{
		"logout":     {revoke("session", "--", "SESSION"), 4401, 4401},
		"removal":    {revoke("member", "hooli", "ada"), 4403, 4403},
		"suspension": {revoke("organization", "hooli"), 4403, 4403},
		"unannounced suspension": {func(t *testing.T, _ testkit.Handshake) {
			t.Helper()
			member(t, "hooli", "suspended")
		}, 4403, 4403},
		// The web application gives the browser another session with it.
		"switch": {func(t *testing.T, session testkit.Handshake) {
			t.Helper()
			w.raw(t, "orgcast:control", `{"type":"organization.switched","session_id":"`+w.sessionID(session)+`","organization_id":"globex"}`)
		}, 4409, 0},
	} {
		t.Run(what, func(t *testing.T) {
			member(t, "hooli", "active")
			undisturbed := w.neighbor(t, v)
			session := w.mint("ada", "hooli")
			c, _ := w.enter(t, session, v.path)
			test.happens(t, session)
			c.ExpectClose(t, test.code)
			if test.back != 0 {
				if got := w.refusedWith(t, session, v.path); got != test.back {
					t.Errorf("afterwards: got %d, want %d", got, test.back)
				}
			}
			undisturbed()
		})
	}
}

func (w *world) origin(t *testing.T) {
	for _, v := range views() {
		for _, origin := range []string{"https://evil.example", "null", "https://app.example.com.evil.example", ""} {
			h := w.mint("ada", "acme")
			h.Header["Origin"] = []string{origin}
			if origin == "" {
				h.Header["Origin"] = nil
			}
			if got := w.refusedWith(t, h, v.path); got != http.StatusForbidden {
				t.Errorf("%q at %s: got %d, want 403 and no upgrade", origin, v.path, got)
			}
		}
	}
}

func (w *world) limits(t *testing.T) {
	v := views()["research"].at("72")
	undisturbed := w.neighbor(t, v)
	big, _ := w.open(t, "ada", "acme", v.path)
	_ = big.SendText(`{"type":"` + strings.Repeat("x", 5000) + `"}`)
	big.ExpectClose(t, 1009)
	fast, _ := w.open(t, "ada", "acme", v.path)
	flood := make([]testkit.Frame, 200)
	for i := range flood {
		flood[i] = testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"get_state"}`)}
	}
	_ = fast.Send(flood...)
	fast.ExpectClose(t, 4429)
	undisturbed()
	w.connectionLimits(t)
}

// connectionLimits meets the limits of two gateways of its own: connections of a user and of an
// organization at one, time in which a browser says nothing at the other.
func (w *world) connectionLimits(t *testing.T) {
	t.Helper()
	s := startServe(t, w.relay.addr, environment{
		"ORGCAST_DIRECTORY": "redis", "ORGCAST_MAX_PER_USER": "2", "ORGCAST_MAX_PER_ORGANIZATION": "3", "ORGCAST_PREFIX": "limits",
	})
	silent := startServe(t, w.relay.addr, environment{"ORGCAST_IDLE_TIMEOUT": "1s", "ORGCAST_PING_INTERVAL": "1s", "ORGCAST_PONG_TIMEOUT": "1m"})
	for key := range map[string]bool{"{acme}:org": true, "{acme}:member:ada": true, "{acme}:member:alan": true} {
		if err := w.redis.HSet(t.Context(), "limits:"+key, "status", "active").Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.expectReady()
	for _, step := range []struct {
		user   string
		status int // 0 is the door open
	}{{"ada", 0}, {"ada", 0}, {"ada", http.StatusTooManyRequests}, {"alan", 0}, {"alan", http.StatusTooManyRequests}} {
		c, answer := testkit.Try(t, testkit.DialTCP(s.public), s.mint(step.user, "acme"))
		if (c != nil) != (step.status == 0) || c == nil && answer.Status != step.status {
			t.Errorf("%s: got %d, want %d", step.user, answer.Status, step.status)
		}
	}
	silent.expectReady()
	testkit.Connect(t, testkit.DialTCP(silent.public), silent.mint("ada", "acme")).ExpectClose(t, 4408)
}
