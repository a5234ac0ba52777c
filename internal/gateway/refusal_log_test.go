package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// observed returns a log of the level that operators have by default, and what is written to it.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	return zap.New(core), logs
}

// TestEveryRefusalIsLogged: an operator sees at the default level why a browser does not get in, from which
// page and address it came, and where it wanted to go.
func TestEveryRefusalIsLogged(t *testing.T) {
	log, logs := observed()
	refuses := &hooks{connect: func(context.Context, consumer.Conn) error { return consumer.ErrForbidden }}
	n := startNode(t, setup{
		log: log, routes: []consumer.Route{explaining("/ws/explain"), refuses.route("/ws/no")},
		options: gateway.Options{MaxPerUser: 1, CloseTimeout: 100 * time.Millisecond, Proxies: proxies(t, "127.0.0.0/8", "::1")},
	})
	n.connect("/ws/events", "alan", "acme")
	const client = "198.51.100.7"
	header := func(more ...string) http.Header {
		h := http.Header{"X-Forwarded-For": {"6.6.6.6, " + client}}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	for name, test := range map[string]struct {
		h            testkit.Handshake
		reason       string
		route        string // "" if the line names the path instead
		organization string
		user         string
	}{
		"foreign origin":         {n.handshake("/ws/events", "ada", "acme", header("Origin", "https://evil.test")), "origin", "/ws/events", "", ""},
		"no session":             {n.handshake("/ws/events", "ada", "acme", header("Cookie", "x=y")), "unauthenticated", "/ws/events", "", ""},
		"no session, explained":  {n.handshake("/ws/explain", "ada", "acme", header("Cookie", "x=y")), "unauthenticated", "/ws/explain", "", ""},
		"not a member":           {n.handshake("/ws/events", "grace", "acme", header()), "forbidden", "/ws/events", "acme", "grace"},
		"not a member, told why": {n.handshake("/ws/explain", "grace", "acme", header()), "forbidden", "/ws/explain", "acme", "grace"},
		"no organization":        {n.handshake("/ws/events", "ada", "", header()), "forbidden", "/ws/events", "", "ada"},
		"directory down":         {n.handshake("/ws/events", "ada", "down", header()), "overloaded", "/ws/events", "down", "ada"},
		"too many":               {n.handshake("/ws/events", "alan", "acme", header()), "too_many_connections", "/ws/events", "acme", "alan"},
		"refused by its hook":    {n.handshake("/ws/no", "ada", "acme", header()), "forbidden", "/ws/no", "acme", "ada"},
		"bad path":               {n.handshake("/ws/nothing", "ada", "acme", header()), "unknown_path", "", "", ""},
		"bad query":              {n.handshake("/ws/events?"+strings.Repeat("q", 2049), "ada", "acme", header()), "query_too_long", "/ws/events", "", ""},
		"no handshake":           {n.handshake("/ws/events", "ada", "acme", header("Upgrade", "h2c")), "no_handshake", "/ws/events", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			logs.TakeAll()
			if c, _ := testkit.Try(t, n.dial, test.h); c != nil {
				defer func() { _ = c.Close() }()
			}
			var fields map[string]any
			testkit.Eventually(t, "the refusal is in the log", func() bool {
				lines := logs.FilterMessage("refused").All()
				if len(lines) > 0 {
					fields = lines[0].ContextMap()
				}
				return len(lines) == 1
			})
			origin := test.h.Header.Get("Origin")
			for key, want := range map[string]any{
				"reason": test.reason, "client": client, "origin": origin, "route": test.route, "organization_id": test.organization, "user_id": test.user,
			} {
				if got, ok := fields[key]; ok && got != want || !ok && want != "" {
					t.Errorf("%s: got %v, want %v", key, got, want)
				}
			}
			if path, ok := fields["path"]; ok != (test.route == "") || ok && path != test.h.Path {
				t.Errorf("path: got %v, want it only without a route", path)
			}
			if line, _ := json.Marshal(fields); strings.Contains(string(line), "6.6.6.6") || strings.Contains(string(line), "qqq") {
				t.Errorf("the line holds what it must not: %s", line)
			}
		})
	}
	t.Run("draining", func(t *testing.T) {
		logs.TakeAll()
		n.gateway.StopAdmission()
		n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", header()), 503, "draining", true)
		if lines := logs.FilterMessage("refused").All(); len(lines) != 1 || lines[0].ContextMap()["client"] != client {
			t.Errorf("got %v, want one line with the client", lines)
		}
	})
}

// TestRefusalLogTakesLittleOfARequest: a line about a refusal does not grow with what a stranger sends.
func TestRefusalLogTakesLittleOfARequest(t *testing.T) {
	log, logs := observed()
	n := startNode(t, setup{log: log})
	long := strings.Repeat("é", 4000)
	h := n.handshake("/ws/"+strings.Repeat("x", 8000), "ada", "acme", http.Header{"Origin": {"https://" + long}, "X-Forwarded-For": {long}})
	n.expectRefused(t, h, 404, "unknown_path", false)
	lines := logs.FilterMessage("refused").All()
	if len(lines) != 1 {
		t.Fatalf("got %d lines, want 1", len(lines))
	}
	encoded, err := json.Marshal(lines[0].ContextMap())
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) > 1000 {
		t.Errorf("got a line of %d bytes, want at most 1000: %s", len(encoded), encoded)
	}
}

// TestStreamRefusalIsLoggedAsAnswered: the log has the status and the code that the client got, not
// those of a broken connection.
func TestStreamRefusalIsLoggedAsAnswered(t *testing.T) {
	log, logs := observed()
	n := startNode(t, setup{log: log, over: streams})
	for name, test := range map[string]struct {
		body   string
		status int64
		code   string
	}{
		"another message": {`{"type":"ping"}`, http.StatusNotImplemented, "websocket_required"},
		"no JSON":         {"hello", http.StatusBadRequest, "bad_message"},
	} {
		t.Run(name, func(t *testing.T) {
			logs.TakeAll()
			testkit.Try(t, n.dial, posted("/ws/events", n.page("ada", "acme"), test.body))
			testkit.Eventually(t, "the refusal is in the log", func() bool { return logs.FilterMessage("refused").Len() == 1 })
			line := logs.FilterMessage("refused").All()[0]
			fields := line.ContextMap()
			if fields["status"] != test.status || fields["reason"] != test.code || line.Level != zapcore.InfoLevel {
				t.Errorf("got %v %v", line.Level, fields)
			}
			if text := fmt.Sprint(fields["error"]); strings.Contains(text, "connection lost") {
				t.Errorf("error: got %q for a connection that was not lost", text)
			}
		})
	}
}
