package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// writeFile writes a file of a test's folder and returns its path.
func writeFile(tb testing.TB, dir, name, text string) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

const reportRoutes = `
version: 1
routes:
  - path: /ws/report/{id:int}/
    who: member
    groups: ["report_{id}"]
    first: {fold: report_update, empty: {status: pending}}
    events:
      report_update: [status, percent]
      report_complete: [status, url]
    receive:
      get_state: first
      cancel: {task: report_cancel, payload: {id: "{id}"}, key: "{request_id}", reply: cancel_response}
`

// visitAt opens a path as a user.
func (s *serving) visitAt(t *testing.T, path, user, org string) *testkit.Client {
	t.Helper()
	h := s.mint(user, org)
	h.Path = path
	return testkit.Connect(t, testkit.DialTCP(s.public), h)
}

// record records an event as a back end does.
func (s *serving) record(t *testing.T, org, group, payload string) {
	t.Helper()
	if _, errOut, err := execute(t, s.env, "", "publish", "--record", org, group, payload); err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
}

// TestDeclaredRoute: a route of a file is served, inside the organization of each connection.
func TestDeclaredRoute(t *testing.T) {
	file := writeFile(t, t.TempDir(), "routes.yaml", reportRoutes)
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_ROUTES_FILE": file})
	s.expectReady()
	acme, globex := s.visitAt(t, "/ws/report/7/", "ada", "acme"), s.visitAt(t, "/ws/report/7/", "eve", "globex")
	for _, c := range []*testkit.Client{acme, globex} {
		c.Expect(t, `{"type":"report_update","status":"pending"}`)
	}
	s.record(t, "acme", "report_7", `{"type":"report_update","status":"running","percent":60,"secret":"x"}`)
	s.record(t, "acme", "report_7", `{"type":"debug","percent":70}`)
	s.record(t, "acme", "report_7", `{"type":"report_complete","status":"completed","url":"/r/7"}`)
	acme.Expect(t, `{"type":"report_update","percent":60,"status":"running"}`)
	acme.Expect(t, `{"type":"report_complete","status":"completed","url":"/r/7"}`)
	s.record(t, "globex", "report_7", `{"type":"report_update","status":"running"}`)
	globex.Expect(t, `{"type":"report_update","status":"running"}`) // the first that it gets
	if got := say(t, acme, `{"type":"get_state"}`); got != `{"type":"report_update","percent":60,"status":"completed","url":"/r/7"}` {
		t.Errorf("the state again: %s", got)
	}
	if got := code(say(t, acme, `{"type":"report_complete"}`)); got != "unknown_type" {
		t.Errorf("a page that says what the server says: %s", got)
	}
}

// TestReloadKeepsOpenRoutes: after SIGHUP, new connections get the routes of the file as it is
// then; open ones keep theirs. A mistake in the file changes nothing.
func TestReloadKeepsOpenRoutes(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, dir, "routes.yaml", reportRoutes)
	s := &secrets{dir: dir, serving: startServe(t, redistest.Start(t), environment{"ORGCAST_ROUTES_FILE": file})}
	s.expectReady()
	old := s.visitAt(t, "/ws/report/7/", "ada", "acme")
	old.Expect(t, `{"type":"report_update","status":"pending"}`)

	writeFile(t, dir, "routes.yaml", strings.Replace(reportRoutes, "groups:", "groups: [other]\n    group:", 1))
	s.hangup(t, `orgcast_reloads_total{result="failed"} 1`, `unknown key`)
	again := s.visitAt(t, "/ws/report/7/", "ada", "acme")
	again.Expect(t, `{"type":"report_update","status":"pending"}`)

	changed := strings.NewReplacer("report_update: [status, percent]", "report_update: [percent]", "/ws/report/", "/ws/reports/", "get_state: first", "again: first").Replace(reportRoutes)
	writeFile(t, dir, "routes.yaml", changed)
	s.hangup(t, `orgcast_reloads_total{result="ok"} 1`, "settings reloaded")
	h := s.mint("ada", "acme")
	h.Path = "/ws/report/7/"
	if _, answer := testkit.Try(t, testkit.DialTCP(s.public), h); answer.Status != http.StatusNotFound {
		t.Errorf("the path that is not declared any more: %d", answer.Status)
	}
	fresh := s.visitAt(t, "/ws/reports/7/", "ada", "acme")
	fresh.Expect(t, `{"type":"report_update","status":"pending"}`)
	s.record(t, "acme", "report_7", `{"type":"report_update","status":"running","percent":60}`)
	fresh.Expect(t, `{"type":"report_update","percent":60}`)
	for _, c := range []*testkit.Client{old, again} {
		c.Expect(t, `{"type":"report_update","percent":60,"status":"running"}`)
	}
	if got := say(t, old, `{"type":"get_state"}`); got != `{"type":"report_update","percent":60,"status":"running"}` {
		t.Errorf("an open connection: %s", got)
	}
	if got := code(say(t, old, `{"type":"again"}`)); got != "unknown_type" {
		t.Errorf("an open connection answers as a new one: %s", got)
	}
}

// TestCheckShowsRoutes: check says what each route allows, or on which line the file is wrong.
func TestCheckShowsRoutes(t *testing.T) {
	dir := t.TempDir()
	env := newServing(t, "127.0.0.1:1", environment{"ORGCAST_ROUTES_FILE": writeFile(t, dir, "routes.yaml", reportRoutes)}).env
	out, errOut, err := execute(t, env, "", "check")
	if err != nil || !strings.Contains(out, "  /ws/report/{id:int}/\n    who        every member of the organization\n    groups     report_{id}\n") {
		t.Errorf("%v\n%s%s", err, out, errOut)
	}
	for name, wrong := range map[string][2]string{
		"mistakes": {"    who: nobody\n    groups: [\"a:b\"]\n    x: 1\n", "--routes-file: line 6: route: unknown key"},
		"a path of ours": {
			"    who: member\n    groups: [a]\n  - path: /ws/chat/\n    who: member\n    groups: [a]\n",
			"--routes-file: path /ws/chat/: the path /ws/chat/ is there already",
		},
	} {
		writeFile(t, dir, "routes.yaml", "version: 1\nroutes:\n  - path: /ws/a/\n"+wrong[0])
		_, errOut, err = execute(t, env, "", "check")
		if err == nil || !strings.Contains(errOut, wrong[1]) {
			t.Errorf("%s: %v\n%s", name, err, errOut)
		}
	}
	env["ORGCAST_ROUTES_FILE"] = filepath.Join(dir, "none.yaml")
	if _, errOut, err = execute(t, env, "", "check"); err == nil || !strings.Contains(errOut, "--routes-file: file cannot be read") {
		t.Errorf("no file: %v\n%s", err, errOut)
	}
}

// TestSchemaIsPrinted: editors get the schema from the gateway that reads the file.
func TestSchemaIsPrinted(t *testing.T) {
	out, _, err := execute(t, nil, "", "config", "schema")
	if err != nil || !strings.Contains(out, `"$schema": "https://json-schema.org/draft/2020-12/schema"`) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, errOut, err := execute(t, nil, "", "config"); err == nil || !strings.Contains(errOut, "schema") {
		t.Errorf("without an argument: %v %s", err, errOut)
	}
}

// TestHookExamples: the hooks of examples/hooks decide for a declared route, in three languages
// alike.
func TestHookExamples(t *testing.T) {
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(t.TempDir(), "hook"), "./examples/hooks/go")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	redis := redistest.Start(t)
	for name, command := range map[string][]string{
		"python": {"python3", filepath.Join(root, "examples/hooks/hook.py")},
		"node":   {"node", filepath.Join(root, "examples/hooks/hook.mjs")},
		"go":     {build.Args[3]},
	} {
		t.Run(name, func(t *testing.T) { testHook(t, redis, root, command) })
	}
}

func testHook(t *testing.T, redis, root string, command []string) {
	t.Helper()
	dir := t.TempDir()
	key := writeFile(t, dir, "hook.key", "whsec_"+base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of a hook's key"))+"\n")
	cmd := exec.Command(command[0], append(command[1:], key, "0")...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 100) // more lines than a hook prints here
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-read
		_ = cmd.Wait()
	})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			said <- lines.Text()
		}
	}()
	var port string
	testkit.Eventually(t, "the hook listens", func() bool {
		select {
		case line := <-said:
			port = strings.TrimPrefix(line, "listening on ")
		case <-read:
			t.Fatal("the hook has ended")
		default:
		}
		return port != ""
	})
	routes, err := os.ReadFile(filepath.Join(root, "examples/hooks/routes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("8090", port, "2s", "10s").Replace(string(routes)) // the machine may be busy
	s := startServe(t, redis, environment{"ORGCAST_ROUTES_FILE": writeFile(t, dir, "routes.yaml", text), "ORGCAST_PREFIX": "hook" + port})
	s.expectReady()
	ctx, stop := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- run(ctx, []string{"worker"}, s.env.get, strings.NewReader(""), io.Discard, s.log) }()
	defer func() {
		stop()
		if err := <-worked; err != nil {
			t.Errorf("worker: %v", err)
		}
	}()

	acme, globex := s.visitAt(t, "/ws/report/7/", "ada", "acme"), s.visitAt(t, "/ws/report/7/", "eve", "globex")
	for c, title := range map[*testkit.Client]string{acme: "Sales", globex: "Costs"} {
		c.Expect(t, `{"type":"report_update","status":"pending"}`)
		if frame, err := c.Next(); err != nil || strings.ReplaceAll(frame, " ", "") != reportFrame(frame, title) {
			t.Errorf("got %s, %v", frame, err)
		}
	}
	s.visitAt(t, "/ws/report/8/", "ada", "acme").ExpectClose(t, 4404)
	s.visitAt(t, "/ws/report/7/", "zoe", "initech").ExpectClose(t, 4404)

	s.record(t, "acme", "report_7", `{"type":"report_update","status":"running","percent":60}`)
	s.record(t, "globex", "report_7", `{"type":"report_update","percent":1}`)
	acme.Expect(t, `{"type":"report_update","percent":60,"status":"running"}`)
	globex.Expect(t, `{"type":"report_update","percent":1}`)

	if err := acme.SendText(`{"type":"refresh"}`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a task", func() bool { return s.metricLine(`orgcast_tasks_dispatched_total{result="accepted"} 1`) })
	if err := acme.SendText(`{"type":"leave"}`); err != nil {
		t.Fatal(err)
	}
	acme.ExpectClose(t, 1000)
	testkit.Eventually(t, "the hook hears of the end", func() bool {
		select {
		case line := <-said:
			return line == "left acme ada"
		default:
			return false
		}
	})
	replayCalls(t, port, key, said)
}

// reportFrame returns the frame of a hook, in whatever order its language writes the members.
func reportFrame(frame, title string) string {
	if strings.HasPrefix(strings.ReplaceAll(frame, " ", ""), `{"id"`) {
		return `{"id":7,"title":"` + title + `","type":"report"}`
	}
	return `{"type":"report","id":7,"title":"` + title + `"}`
}
