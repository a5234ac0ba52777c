package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

const testWebhookKey = "webhook-master-key-of-the-tests-of-the-gateway"

// webhookReceiver is a back end that remembers all calls.
type webhookReceiver struct {
	*httptest.Server

	mu    sync.Mutex
	calls []webhookCall
	ids   map[string]string // of what was accepted: id → body
	away  bool
}

type webhookCall struct {
	header http.Header
	body   string
}

func newWebhookReceiver(tb testing.TB) *webhookReceiver {
	tb.Helper()
	r := &webhookReceiver{ids: make(map[string]string)}
	r.Server = httptest.NewServer(r)
	tb.Cleanup(r.Close)
	return r
}

func (r *webhookReceiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.calls = append(r.calls, webhookCall{request.Header, string(body)})
	r.ids[request.Header.Get("Webhook-Id")] = string(body)
}

func (r *webhookReceiver) setAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

// told returns what was told, each webhook once, without ids of connections, and how often.
func (r *webhookReceiver) told() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := make(map[string]int)
	for _, body := range r.ids {
		var b struct {
			Type string
			Data struct {
				OrganizationID string `json:"organization_id"`
				UserID         string `json:"user_id"`
				Group, Cause   string
			}
		}
		_ = json.Unmarshal([]byte(body), &b)
		count[strings.Join(strings.Fields(fmt.Sprint(b.Type, " ", b.Data.OrganizationID, " ", b.Data.UserID, " ", b.Data.Group, " ", b.Data.Cause)), " ")]++
	}
	return count
}

// expect waits until something was told so often.
func (r *webhookReceiver) expect(tb testing.TB, what string, times int) {
	tb.Helper()
	testkit.Eventually(tb, what, func() bool { return r.told()[what] == times })
}

func webhookEnvironment(r *webhookReceiver) environment {
	return environment{
		"ORGCAST_WEBHOOK_URL": r.URL, "ORGCAST_WEBHOOK_KEY": testWebhookKey, "ORGCAST_WEBHOOK_GROUPS": "room.*", "ORGCAST_WEBHOOK_LINGER": "50ms",
	}
}

// TestWebhooksOfAGateway: what a back end is told of two organizations, and that a library which knows
// nothing of the gateway verifies it, with the key of the right organization alone.
func TestWebhooksOfAGateway(t *testing.T) {
	r := newWebhookReceiver(t)
	s := startServe(t, redistest.Start(t), webhookEnvironment(r))
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	open := func(user, org string) *testkit.Client {
		c := testkit.Connect(t, dial, s.mint(user, org))
		if err := c.SendText(`{"type":"subscribe","group":"room.1"}`); err != nil {
			t.Fatal(err)
		}
		c.Expect(t, `{"type":"subscribed","group":"room.1"}`)
		return c
	}
	ada, alan, grace := open("ada", "acme"), open("alan", "acme"), open("grace", "globex")
	r.expect(t, "connection.connected acme ada", 1)
	r.expect(t, "connection.connected acme alan", 1)
	r.expect(t, "connection.connected globex grace", 1)
	r.expect(t, "group.occupied acme room.1", 1)
	r.expect(t, "group.occupied globex room.1", 1)
	for _, c := range []*testkit.Client{ada, grace} {
		if err := c.Send(testkit.CloseFrame(1000, "")); err != nil {
			t.Fatal(err)
		}
	}
	r.expect(t, "connection.disconnected acme ada closed_by_peer", 1)
	r.expect(t, "connection.disconnected globex grace closed_by_peer", 1)
	r.expect(t, "group.vacated globex room.1", 1)
	if err := alan.SendText(`{"type":"unsubscribe","group":"room.1"}`); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "group.vacated acme room.1", 1)
	if told := r.told(); len(told) != 9 {
		t.Errorf("got %v, want nine webhooks", told)
	}

	keys := make(map[string]string)
	for _, org := range []string{"acme", "globex"} {
		out, errOut, err := execute(t, environment{"ORGCAST_REDIS": s.env["ORGCAST_REDIS"], "ORGCAST_WEBHOOK_KEY": testWebhookKey}, "", "webhooks", "key", org)
		if err != nil {
			t.Fatalf("webhooks key: %v\n%s", err, errOut)
		}
		keys[org] = strings.TrimSpace(out)
	}
	for org, key := range keys {
		for body, verdict := range r.verify(t, key) {
			if own := strings.Contains(body, `"organization_id":"`+org+`"`); own != (verdict == "ok") {
				t.Errorf("%s with the key of %s: %s", body, org, verdict)
			}
		}
	}
	if log := s.log.String(); strings.Contains(log, "whsec_") || strings.Contains(log, testWebhookKey) {
		t.Error("a key is in the log")
	}
}

// verify returns what the library of Standard Webhooks says of each body.
func (r *webhookReceiver) verify(tb testing.TB, key string) map[string]string {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var input strings.Builder
	for _, c := range r.calls {
		line, err := json.Marshal(map[string]any{"key": key, "headers": c.header, "body": c.body})
		if err != nil {
			tb.Fatal(err)
		}
		input.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(tb.Context(), "go", "run", ".")
	cmd.Dir = filepath.Join(repository, "tools/webhooks")
	cmd.Stdin = strings.NewReader(input.String())
	out, err := cmd.Output()
	verdicts := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(verdicts) != len(r.calls) {
		tb.Fatalf("got %q, %v, want a verdict on each of %d calls", out, err, len(r.calls))
	}
	byBody := make(map[string]string)
	for i, verdict := range verdicts {
		byBody[r.calls[i].body] = verdict
	}
	return byBody
}

// TestSIGTERMLosesNoWebhook: a gateway with open connections is told to stop while its receiver is
// away. All of their ends are told, by the next gateway.
func TestSIGTERMLosesNoWebhook(t *testing.T) {
	t.Parallel()
	const connections = 50
	r := newWebhookReceiver(t)
	addr := redistest.Start(t)
	s := newServing(t, addr, webhookEnvironment(r))
	s.spawned = spawn(t, s.env, nil, s.log, "serve")
	s.findAddresses()
	s.expectReady()
	r.setAway(true)
	for range connections {
		s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	}
	s.spawned.signal(syscall.SIGTERM)
	s.spawned.expectExit(0)
	if told := r.told(); len(told) != 0 {
		t.Fatalf("got %v while the receiver is away", told)
	}
	r.setAway(false)
	startServe(t, addr, webhookEnvironment(r))
	r.expect(t, "connection.connected acme ada", connections)
	r.expect(t, "connection.disconnected acme ada draining", connections)
}

// TestWebhooksCommand follows what its help says, with dead letters of two organizations.
func TestWebhooksCommand(t *testing.T) {
	t.Parallel()
	r := newWebhookReceiver(t)
	r.setAway(true)
	addr := redistest.Start(t)
	env := webhookEnvironment(r)
	env["ORGCAST_WEBHOOK_RETRY_FOR"] = "1s"
	env["ORGCAST_WEBHOOK_EVENTS"] = "connection.connected"
	s := startServe(t, addr, env)
	s.expectReady()
	for _, who := range [][2]string{{"ada", "acme"}, {"alan", "acme"}, {"ada", "globex"}} {
		s.subscribe(testkit.DialTCP(s.public), who[0], who[1])
	}
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	if err := client.HSet(t.Context(), "orgcast:{initech}:org", "webhook_key", "whsec_aW5pdGVjaCBpbml0ZWNoIGluaXRlY2gh").Err(); err != nil {
		t.Fatal(err)
	}
	command := environment{"ORGCAST_REDIS": "redis://" + addr + "/0", "ORGCAST_WEBHOOK_KEY": testWebhookKey}
	list := func() string {
		out, _, err := execute(t, command, "", "webhooks", "list")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	testkit.Eventually(t, "three are dead", func() bool { return strings.Contains(list(), "waiting 0 (0 bytes), dead 3") })
	found, _, err := execute(t, command, "", "webhooks", "list", "acme")
	id := regexp.MustCompile(`(msg_\S+) +user:ada`).FindStringSubmatch(found)
	if err != nil || id == nil {
		t.Fatalf("got %v and %q", err, found)
	}
	shown := func(query string) string { _, text := s.ask(http.MethodGet, "/v1/webhooks"+query, ""); return text }
	if got := shown("?organization_id=acme"); !strings.HasPrefix(got, `{"waiting":0,"waiting_bytes":0,"dead":2,"dead_letters":[`) || !strings.Contains(got, `"id":"`+id[1]+`","line":"user:ada","webhook":{"type":"connection.connected"`) {
		t.Errorf("dead letters of acme: got %s", got)
	}
	if got := shown("?limit=1"); !strings.Contains(got, `"dead":3,"organizations":["acme"],"next":`) {
		t.Errorf("organizations with dead letters: got %s", got)
	}
	if status, got := s.ask(http.MethodPost, "/v1/webhooks/retry", `{"organization_id":"globex","id":"`+id[1]+`"}`); status != http.StatusNotFound || !strings.Contains(got, "unknown_webhook") {
		t.Errorf("a letter of another organization: got %d %s", status, got)
	}
	r.setAway(false)
	for _, step := range []struct {
		args string
		want string // a pattern of the output, or of the error
		err  bool
	}{
		{args: "list", want: `(?s)^waiting 0 \(0 bytes\), dead 3\n\nDEAD LETTERS OF\nacme\nglobex\n$`},
		{args: "list --limit 1", want: `(?s)acme\nThere are more; see --limit.\n$`},
		{args: "list acme", want: `(?s)^ID +LINE +TYPE +AT +ATTEMPTS +REASON\nmsg_\S+ +user:a\S+ +connection.connected +20\S+Z +\d+ +status_503\nmsg_\S+ +user:a\S+ .*\n$`},
		{args: "list initech", want: `^ID +LINE +TYPE +AT +ATTEMPTS +REASON\n$`},
		{args: "retry globex " + id[1], want: `organization globex has no dead letter msg_`, err: true},
		{args: "retry acme " + id[1], want: `^retried ` + id[1] + `\n$`},
		{args: "retry acme " + id[1], want: `organization acme has no dead letter msg_`, err: true},
		{args: "retry globex --all", want: `^retried msg_\S+\n$`},
		{args: "retry globex --all", want: `^$`},
		{args: "key acme", want: `^whsec_\S+\n$`},
		{args: "key initech", want: `^whsec_aW5pdGVjaCBpbml0ZWNoIGluaXRlY2gh\n$`},
		{args: "retry acme", want: `retry ORGANIZATION ID`, err: true},
		{args: "retry acme " + id[1] + " --all", want: `retry ORGANIZATION ID`, err: true},
		{args: "key a:b", want: `organization`, err: true},
		{args: "drop acme", want: `retry ORGANIZATION ID`, err: true},
	} {
		stdout, stderr, err := execute(t, command, "", append([]string{"webhooks"}, strings.Fields(step.args)...)...)
		out := stdout
		if step.err {
			out = stderr
		}
		if (err != nil) != step.err || !regexp.MustCompile(step.want).MatchString(out) {
			t.Errorf("webhooks %s: got %v and %q, want %q", step.args, err, stdout+stderr, step.want)
		}
	}
	r.expect(t, "connection.connected acme ada", 1)
	r.expect(t, "connection.connected globex ada", 1)
	if told := r.told(); told["connection.connected acme alan"] != 0 {
		t.Error("a dead letter was delivered that nobody retried")
	}
	if status, got := s.ask(http.MethodPost, "/v1/webhooks/retry", `{"organization_id":"acme","all":true}`); status != http.StatusOK || !strings.Contains(got, `{"status":"retried","retried":1}`) {
		t.Errorf("retry all of acme: got %d %s", status, got)
	}
	r.expect(t, "connection.connected acme alan", 1)
	if _, ok := r.ids[id[1]]; !ok {
		t.Errorf("%s came under another id", id[1])
	}
}

// TestWebhookSettings: what cannot work is refused at the start.
func TestWebhookSettings(t *testing.T) {
	for args, want := range map[string]string{
		"--webhook-url http://127.0.0.1/":                                    "--webhook-key: required",
		"--webhook-key " + testWebhookKey:                                    "--webhook-key: requires",
		"--webhook-url ftp://x --webhook-key " + testWebhookKey:              "--webhook-url",
		"--webhook-url http://x --webhook-key short":                         "32 characters",
		"--webhook-groups a":                                                 "--webhook-groups: requires",
		"--webhook-groups a**":                                               "must be the name of a group",
		"--webhook-events connection.closed":                                 "must be one of",
		"--webhook-private-networks 10.0.0.0/8":                              "--webhook-private-networks: requires",
		"--webhook-organization-urls --webhook-private-networks 10.0.0.0/99": "must be a network",
	} {
		env := environment{"ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": testOrigin}
		_, stderr, err := execute(t, env, "", append([]string{"check"}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(stderr, want) || strings.Contains(stderr, testWebhookKey) {
			t.Errorf("%s: got %v and %q, want %q", args, err, stderr, want)
		}
	}
}
