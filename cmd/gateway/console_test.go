package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/api"
	"orgcast/internal/console"
	"orgcast/internal/inventory"
	"orgcast/internal/nodes"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

const consoleKey = "console-key-console-key-console-k"

// askConsole asks a path of the console of organizations as an administrator.
func askConsole(t *testing.T, s *serving, method, path, body string, who console.Administrator) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, "http://"+s.public+"/console/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+console.Token([]byte(consoleKey), who, time.Now().Add(10*time.Minute)))
	r.Header.Set("Orgcast-Organization", who.Organization.String())
	r.Header.Set("Orgcast-User", url.PathEscape(who.UserID))
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatalf("%s: %d %s", path, answer.StatusCode, text)
	}
	return answer.StatusCode, fields
}

// TestConsoleRevokesOnAnotherNode: an administrator sees the devices of their organization on all
// nodes, and ends the session of one of them. A suspended administrator sees nothing.
func TestConsoleRevokesOnAnotherNode(t *testing.T) {
	addr := redistest.Start(t)
	client := redistest.NewClient(t, addr)
	settings := environment{"ORGCAST_CONSOLE_PATH": "/console", "ORGCAST_CONSOLE_KEY": consoleKey, "ORGCAST_DIRECTORY": "redis"}
	for _, org := range []string{"acme", "globex"} {
		for _, user := range []string{"ada", "boss"} {
			client.HSet(t.Context(), "orgcast:{"+org+"}:org", "status", "active")
			client.HSet(t.Context(), "orgcast:{"+org+"}:member:"+user, "status", "active")
		}
	}
	a, b := startServe(t, addr, settings), startServe(t, addr, settings)
	a.expectReady()
	b.expectReady()
	boss := console.Administrator{Organization: testkit.Org(t, "acme"), UserID: "boss"}
	session := b.mint("ada", "acme")
	device := testkit.Connect(t, testkit.DialTCP(b.public), session)
	other := testkit.Connect(t, testkit.DialTCP(b.public), b.mint("ada", "globex"))
	var devices []any
	testkit.Eventually(t, "node a knows the device of node b", func() bool {
		_, body := askConsole(t, a, http.MethodGet, "v1/devices", "", boss)
		devices, _ = body["devices"].([]any)
		return body["complete"] == true && len(devices) == 1
	})
	row, _ := devices[0].(map[string]any)
	id, _ := row["connection_id"].(string)
	if row["user_id"] != "ada" || row["session_id"] != b.sessionID(session) {
		t.Errorf("got %v", row)
	}
	outsider := console.Administrator{Organization: testkit.Org(t, "globex"), UserID: "boss"}
	if status, body := askConsole(t, a, http.MethodPost, "v1/revoke", `{"connection_id":"`+id+`"}`, outsider); status != http.StatusNotFound || body["code"] != "device_not_found" {
		t.Errorf("an administrator of another organization: got %d %v", status, body)
	}
	asked := time.Now()
	if status, body := askConsole(t, a, http.MethodPost, "v1/revoke", `{"connection_id":"`+id+`"}`, boss); status != http.StatusOK {
		t.Fatalf("revoke: got %d %v", status, body)
	}
	device.ExpectClose(t, 4401)
	t.Logf("the device was gone after %v", time.Since(asked))
	if err := other.SendText(`{"type":"ping"}`); err != nil {
		t.Fatal(err)
	}
	other.Expect(t, `{"type":"pong"}`)
	client.HSet(t.Context(), "orgcast:{acme}:member:boss", "status", "suspended")
	if status, body := askConsole(t, a, http.MethodGet, "v1/devices", "", boss); status != http.StatusForbidden || body["code"] != "not_allowed" {
		t.Errorf("a suspended administrator: got %d %v", status, body)
	}
	client.HSet(t.Context(), "orgcast:{acme}:member:boss", "status", "active")
	client.Set(t.Context(), "orgcast:user-disabled:boss", "1", 0)
	if status, body := askConsole(t, a, http.MethodGet, "v1/devices", "", boss); status != http.StatusForbidden || body["code"] != "not_allowed" {
		t.Errorf("a disabled administrator: got %d %v", status, body)
	}
}

// TestConsoleCountsViolations: a row of another organization that a node answers with is held back, and
// counts as everything that the last comparison stops.
func TestConsoleCountsViolations(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	s := startServe(t, addr, environment{"ORGCAST_CONSOLE_PATH": "/console", "ORGCAST_CONSOLE_KEY": consoleKey})
	s.expectReady()
	mutant := nodes.New(redistest.NewClient(t, addr), testkit.Keys(t), nodes.Options{})
	nodes.Answer(mutant, api.Connections(), func(_ context.Context, q inventory.Query) (inventory.Page[inventory.Connection], error) {
		rows := inventory.NewCollector[inventory.Connection](q)
		rows.Add(inventory.Connection{ID: "C1", Organization: "globex", User: "secret"})
		return rows.Page()
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = mutant.Run(ctx) }) // always nil
	t.Cleanup(func() { cancel(); running.Wait() })
	boss := console.Administrator{Organization: testkit.Org(t, "acme"), UserID: "boss"}
	testkit.Eventually(t, "the mutant answers", func() bool {
		status, body := askConsole(t, s, http.MethodGet, "v1/devices", "", boss)
		if devices, _ := body["devices"].([]any); len(devices) > 0 {
			t.Fatalf("got %v", body)
		}
		return status == http.StatusServiceUnavailable && body["code"] == "unavailable" && strings.Contains(s.log.String(), "isolation violation prevented")
	})
	if _, metrics := s.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, "orgcast_isolation_violations_total 1\n") {
		t.Error("the violation is not counted")
	}
	if status, report := s.ask(http.MethodGet, "/readyz", ""); status != http.StatusServiceUnavailable || !strings.Contains(report, "an isolation violation was counted") {
		t.Errorf("got %d %s, want a node that is not ready", status, report)
	}
}

// TestConsoleSettings: mistakes name the settings, and without a path there is no console.
func TestConsoleSettings(t *testing.T) {
	for want, more := range map[string]environment{
		"--console-key: required with --console-path": {"ORGCAST_CONSOLE_PATH": "/console"},
		"must not be below /ws/":                      {"ORGCAST_CONSOLE_PATH": "/ws/console", "ORGCAST_CONSOLE_KEY": consoleKey},
		"must be a path without a slash":              {"ORGCAST_CONSOLE_PATH": "/console/", "ORGCAST_CONSOLE_KEY": consoleKey},
		"--console-key and --admin-key: must differ":  {"ORGCAST_ADMIN_KEY": consoleKey, "ORGCAST_CONSOLE_KEY": consoleKey},
		"--console-path and --public-health":          {"ORGCAST_CONSOLE_PATH": "/a", "ORGCAST_PUBLIC_HEALTH": "/a", "ORGCAST_CONSOLE_KEY": consoleKey},
		"must have at least 32":                       {"ORGCAST_CONSOLE_PATH": "/console", "ORGCAST_CONSOLE_KEY": "short"},
	} {
		env := environment{"ORGCAST_ORIGINS": "https://app.test", "ORGCAST_SESSION_KEYS": strings.Repeat("k", 32)}
		maps.Copy(env, more)
		if _, stderr, err := execute(t, env, "", "check"); err == nil || !strings.Contains(stderr+err.Error(), want) {
			t.Errorf("got %v %s, want %s", err, stderr, want)
		}
	}
	s := startServe(t, redistest.Start(t), nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.public+"/console/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("without --console-path: got %d", answer.StatusCode)
	}
	if status, page := s.ask(http.MethodGet, "/console/", ""); status != http.StatusOK || !strings.Contains(page, `data-scope="operators"`) {
		t.Errorf("the console of operators: got %d %s", status, page)
	}
}

// TestConsoleLinkInPython: the function in docs/console.md makes links that open the console.
func TestConsoleLinkInPython(t *testing.T) {
	block := regexp.MustCompile("(?s)```python\n(.*?)```").FindStringSubmatch(readDoc(t, "docs/console.md"))
	if block == nil {
		t.Fatal("docs/console.md has no Python")
	}
	const user = "zoë+1@example.com"
	out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", block[1]+"\nimport sys\nprint(console_url(*sys.argv[1:]))", consoleKey, "acme", user).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, fragment, _ := strings.Cut(strings.TrimSpace(string(out)), "#")
	given, err := url.ParseQuery(fragment)
	if err != nil || given.Get("org") != "acme" || given.Get("user") != user {
		t.Fatalf("got %s: %v", out, err)
	}
	until, _, _ := strings.Cut(given.Get("token"), ".")
	seconds, err := strconv.ParseInt(until, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	who := console.Administrator{Organization: testkit.Org(t, "acme"), UserID: user}
	if want := console.Token([]byte(consoleKey), who, time.Unix(seconds, 0)); given.Get("token") != want {
		t.Errorf("got %s, want %s", given.Get("token"), want)
	}
}
