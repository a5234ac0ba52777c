package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// step is a step of testdata/report.json: a page opens or sends something, or a back end records something; then a page
// gets frames, in any order, because work goes on beside the answer to it.
type step struct {
	Note, Open, User, Org, At string
	Record, Send              json.RawMessage
	Get                       []map[string]any
	Refused                   bool
}

// TestReportInThreeWays: a report is the same whether it is written in Go, declared in a file or decided by a hook in
// Python, and in each way two organizations that share every id see nothing of each other.
func TestReportInThreeWays(t *testing.T) {
	text, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "ORGCAST_ROUTES_FILE="+routesWithHook(t))
	for name, way := range map[string]struct{ path, id string }{
		"in Go":     {"/ws/report/7/", "7"},
		"declared":  {"/ws/declared/report/8/", "8"},
		"by a hook": {"/ws/hooked/report/9/", "9"},
	} {
		t.Run(name, func(t *testing.T) {
			var steps []step
			if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "ID", way.id)), &steps); err != nil {
				t.Fatal(err)
			}
			w.converse(t, steps, way.path, "report_"+way.id)
		})
	}
	for _, org := range []string{"acme", "globex"} {
		if got := w.redis.Get(t.Context(), "orgcast:{"+org+"}:store:last_report").Val(); !slices.Contains([]string{"7", "8", "9"}, got) {
			t.Errorf("the tool has left %q in the store of %s", got, org)
		}
	}
}

// converse goes through the steps.
func (w *world) converse(t *testing.T, steps []step, path, group string) {
	t.Helper()
	pages, named := map[string]*client{}, map[string]any{}
	for i, s := range steps {
		where := fmt.Sprintf("step %d, %s%s: %s", i+1, s.At, s.Open, s.Note)
		switch {
		case s.Open != "":
			pages[s.Open] = w.connect(t, path, s.User, s.Org)
		case s.Record != nil:
			w.run(t, "publish", "--record", s.Org, group, string(s.Record))
		case s.Send != nil:
			pages[s.At].send(t, s.Send)
		}
		if s.Refused { // each way in its own words
			if got := pages[s.At].next(t); got["code"] != "unknown_type" {
				t.Fatalf("%s: got %v, want a refusal", where, got)
			}
		}
		want := slices.Clone(s.Get)
		for range s.Get {
			got := pages[s.At].next(t)
			at := slices.IndexFunc(want, func(frame map[string]any) bool { return same(frame, got, named) })
			if at < 0 {
				t.Fatalf("%s: got %v, want one of %v", where, got, want)
			}
			want = slices.Delete(want, at, at+1)
		}
	}
}

// same compares a frame with what is wanted. The id of a task is by chance: ANY stands for any, another name for one id.
func same(want, got, named map[string]any) bool {
	want = maps.Clone(want)
	if name, ok := want["task_id"].(string); ok {
		id, _ := got["task_id"].(string)
		if id == "" || named[name] != nil && named[name] != id {
			return false
		}
		want["task_id"] = id
		if name != "ANY" {
			named[name] = id
		}
	}
	return reflect.DeepEqual(want, got)
}

// routesWithHook starts the hook and returns a routes file that leads to it.
func routesWithHook(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("hook.key", "whsec_"+base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of a hook's key"))+"\n")
	const listening = "listening on "
	_, port, ok := strings.Cut(reads(t, exec.Command("python3", "hook.py", key, "0"), listening), listening)
	if !ok {
		t.Fatal("the hook has ended")
	}
	routes, err := os.ReadFile("routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	busy := strings.NewReplacer("8090", strings.TrimSpace(port), "timeout: 2s", "timeout: 10s") // the machine may be
	return write("routes.yaml", busy.Replace(string(routes)))
}

// TestHandler: a handler answers members, each from the objects of their own organization.
func TestHandler(t *testing.T) {
	w := newWorld(t)
	acme, globex := w.cookie(t, "ada", "acme"), w.cookie(t, "ada", "globex")
	for name, test := range map[string]struct {
		method, path string
		header       http.Header
		status       int
		body         string
	}{
		"a member":                    {http.MethodGet, "/reports/7", acme, 200, `{"id":"7","title":"Sales","user":"ada"}`},
		"the same user elsewhere":     {http.MethodGet, "/reports/7", globex, 200, `{"id":"7","title":"Costs","user":"ada"}`},
		"what only others have":       {http.MethodGet, "/reports/10", acme, 404, "no such report"},
		"what nobody has":             {http.MethodGet, "/reports/11", acme, 404, "no such report"},
		"an id that is part of a key": {http.MethodGet, "/reports/x%7D:object:report:10", acme, 404, "no such report"},
		"nobody":                      {http.MethodGet, "/reports/7", http.Header{}, 401, ""},
		"no member":                   {http.MethodGet, "/reports/7", w.cookie(t, "mallory", "acme"), 403, ""},
		"an organization that is not": {http.MethodGet, "/reports/7", w.cookie(t, "ada", "initech"), 403, ""},
		"no organization":             {http.MethodGet, "/reports/7", http.Header{"Cookie": {w.run(t, "session", "mint", "ada")}}, 403, ""},
		"another method":              {http.MethodPost, "/reports/7", acme, 404, ""},
		"a path that has no handler":  {http.MethodGet, "/report", acme, 404, ""},
		"a path of connections":       {http.MethodGet, "/ws/report/7/", acme, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := w.ask(t, test.method, test.path, test.header)
			if status != test.status || test.body != "" && body != test.body {
				t.Errorf("got %d %s, want %d %s", status, body, test.status, test.body)
			}
		})
	}
}

// TestCheckAndTasks: the other subcommands know the extension, too.
func TestSubcommands(t *testing.T) {
	w := newWorld(t)
	if got, _, _ := strings.Cut(w.run(t, "version"), "\n"); got != "example" {
		t.Errorf("version: got %q first", got)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nroutes:\n  - {path: \"/ws/report/{x}/\", who: member, groups: [a]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := w.program(t.Context(), "check", "--routes-file", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/ws/report/{id:int}/ is there already") {
		t.Errorf("a path of the extension in the routes file: %v\n%s", err, out)
	}
	if out, err := w.program(t.Context(), "demo").CombinedOutput(); err == nil || !strings.Contains(string(out), "unknown subcommand") {
		t.Errorf("an extension has a demo: %v\n%s", err, out)
	}
}
