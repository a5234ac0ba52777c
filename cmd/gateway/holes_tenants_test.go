package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/app"
	"orgcast/internal/testkit"
)

// services are what the gateway's consumers work with, for a test that calls it itself.
func (w *world) services(t *testing.T) *app.Services {
	t.Helper()
	keys := testkit.Keys(t)
	s, err := app.NewServices(&app.Node{Options: new(app.Options), Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Redis: &app.Clients{Events: w.redis, State: w.redis}, Keys: keys, Bus: w.bus})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// guessedIDs tries every route without a session, and the integers of another organization with
// one.
func (w *world) guessedIDs(t *testing.T) {
	nobody := testkit.Handshake{Header: http.Header{"Origin": {testOrigin}}}
	forged := testkit.Handshake{Header: http.Header{"Origin": {testOrigin}, "Cookie": {"session=forged"}}}
	for _, path := range everywhere(conversationID) {
		for _, h := range []testkit.Handshake{nobody, forged} {
			if got := w.refusedWith(t, h, path); got != 4401 && got != http.StatusUnauthorized {
				t.Errorf("%s without a session: got %d, want 401 or 4401", path, got)
			}
		}
	}
	for _, name := range []string{"research", "audit", "optimization"} {
		w.expectApart(t, views()[name])
	}
}

// guessedTasks tries the ids of another organization's tasks.
func (w *world) guessedTasks(t *testing.T) {
	for _, name := range []string{"meta tags", "crew execution", "crawl"} {
		w.expectApart(t, views()[name])
	}
}

// noOrganization comes with a session that has none, and with one that nobody knows.
func (w *world) noOrganization(t *testing.T) {
	for _, path := range append(everywhere(conversationID), "/ws/events") {
		if strings.Contains(path, "connection_test") {
			continue
		}
		for what, h := range map[string]testkit.Handshake{"without an organization": w.mintAlone("ada"), "of an unknown one": w.mint("ada", "nowhere")} {
			if got := w.refusedWith(t, h, path); got != 4403 && got != http.StatusForbidden {
				t.Fatalf("%s at %s: got %d, want 403 or 4403", what, path, got)
			}
		}
	}
	// The one route that works without an organization leads to no group.
	c := testkit.Connect(t, w.dial, w.mintAlone("ada"))
	next(t, c)
	if got := code(say(t, c, `{"type":"subscribe","group":"all","organization_id":"acme"}`)); got != "unknown_type" {
		t.Errorf("subscribe: got %s, want unknown_type", got)
	}
	w.record(t, "acme", "all", `{"type":"x"}`)
	expectPong(t, c) // and nothing before it
}

// superuser has every role of one organization, and is nobody in others.
func (w *world) superuser(t *testing.T) {
	for _, role := range []string{"superuser", "admin", "staff", "owner"} {
		if err := w.redis.HSet(t.Context(), "orgcast:{acme}:member:root", "status", "active", "role", role).Err(); err != nil {
			t.Fatal(err)
		}
		if got := w.refusedWith(t, w.mint("root", "globex"), "/ws/research/78/"); got != 4403 {
			t.Errorf("a %s of acme at globex: got %d, want 4403", role, got)
		}
		v := views()["research"].at("78")
		w.record(t, "globex", v.group, `{"type":"status_update","status":"secret of globex"}`)
		c, first := w.open(t, "root", "acme", v.path)
		if !strings.Contains(first, `"pending"`) && !strings.Contains(first, "MARK") {
			t.Errorf("a %s of acme: got %s, want the state of acme", role, first)
		}
		for _, frame := range []string{`{"type":"get_state","organization_id":"globex"}`, `{"type":"get_state","organization_id":null}`} {
			if got := say(t, c, frame); strings.Contains(got, "globex") {
				t.Errorf("a %s of acme: got %s, want nothing of globex", role, got)
			}
		}
		w.record(t, "globex", v.group, v.event)
		c.Expect(t, w.record(t, "acme", v.group, v.event)) // and nothing before it
	}
}

// oldestFirst opens a run late. A page appends what comes, so the first frame begins with the
// oldest.
func (w *world) oldestFirst(t *testing.T) {
	v := views()["crew execution"].at("79")
	undisturbed := w.neighbor(t, v)
	for _, text := range []string{"first", "second", "third"} {
		w.record(t, "acme", v.group, `{"type":"crew_execution_update","status":"RUNNING","messages":[{"text":"`+text+`"}]}`)
	}
	c, first := w.open(t, "ada", "acme", v.path)
	if !strings.Contains(first, `[{"text":"first"},{"text":"second"},{"text":"third"}]`) {
		t.Errorf("got %s, want the oldest message first", first)
	}
	chat := chat("aaaaaaaa-0000-4000-8000-000000000009")
	for _, text := range []string{"first", "second"} {
		w.record(t, "acme", chat.group, `{"type":"agent_message","message":"`+text+`"}`)
	}
	talk, got := w.open(t, "ada", "acme", chat.path)
	if second := next(t, talk); !strings.Contains(got, "first") || !strings.Contains(second, "second") {
		t.Errorf("got %s and %s, want the oldest message first", got, second)
	}
	c.Expect(t, w.record(t, "acme", v.group, v.event))
	undisturbed()
}

// TestPagesOfTheOriginalKeepTheOrder: what pages of the original get in another form stays in its
// place.
func TestPagesOfTheOriginalKeepTheOrder(t *testing.T) {
	const rounds = 100
	w := newWorld(t)
	v := views()["board"]
	c, _ := w.open(t, "ada", "acme", v.path)
	var want []string
	for range rounds {
		for _, fields := range []string{`{"type":"execution_update","execution_id":41,"status":"RUNNING"}`, `{"type":"agent_step","execution_id":41,"step":"thinks"}`, `{"type":"task_complete","execution_id":41}`} {
			want = append(want, strings.Replace(w.record(t, "acme", v.group, fields), "agent_step", "execution_update", 1))
		}
	}
	for _, frame := range want {
		c.Expect(t, frame)
	}
}
