package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

const (
	python       = "/usr/bin/python3" // Debian's, for which python3-redis is installed
	pythonWorker = "../../examples/python/worker.py"
	pythonPath   = "PYTHONPATH=../../clients/python/src" // where it finds the package
)

// startPython starts the worker of examples/python. It is killed at the end of the test at the
// latest. Arguments in more override those of the fixture.
func (f *fixture) startPython(t *testing.T, more ...string) *exec.Cmd {
	t.Helper()
	return f.startPythonScript(t, pythonWorker, more...)
}

// startPythonScript starts another worker in the same way.
func (f *fixture) startPythonScript(t *testing.T, script string, more ...string) *exec.Cmd {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import redis").CombinedOutput(); err != nil {
		t.Fatalf("python3-redis is needed: apt-get install python3-redis: %v\n%s", err, out)
	}
	redisArgs := []string{"--redis"}
	if f.server != nil {
		redisArgs = append(redisArgs, "redis://"+f.server.Addr+"/0")
	} else {
		redisArgs = append(redisArgs, "redis://"+onCluster.Addrs()[0], "--cluster")
	}
	cmd := exec.Command(python, append([]string{"-B", script, "--attempts", "2", "--backoff", "0.01", "--takeover", "2", "--poll", "0.05"}, append(redisArgs, more...)...)...)
	cmd.Env = append(os.Environ(), pythonPath)
	cmd.Stdout, cmd.Stderr = f.log, f.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func (f *fixture) dispatchWords(t *testing.T, org, id, payload string) {
	t.Helper()
	_, err := f.dispatcher.Dispatch(as(t, org), task.Task{Kind: "words", ID: id, Group: testkit.Group(t, org, "jobs"), UserID: "auth0|ü", Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPythonWorkerInDatabase: in another database of Redis, the worker publishes on the channels of
// that database. It reads organizations from another server.
func TestPythonWorkerInDatabase(t *testing.T) {
	if onCluster != nil {
		return // a Cluster has one database
	}
	f := newFixture(t)
	state := redistest.StartServer(t)
	stateClient := newClient(state.Addr)
	defer stateClient.Close()
	inDatabase := redis.NewClient(&redis.Options{Addr: f.server.Addr, DB: 3, ContextTimeoutEnabled: true})
	defer inDatabase.Close()
	members, err1 := directory.NewRedis(stateClient, f.keys)
	dispatcher, err2 := task.NewDispatcher(inDatabase, f.keys, task.DispatcherOptions{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := members.PutOrganization(t.Context(), testkit.Org(t, "initech"), directory.Active); err != nil {
		t.Fatal(err)
	}
	heard := inDatabase.PSubscribe(t.Context(), "*")
	defer heard.Close()
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	group := testkit.Group(t, "initech", "jobs")
	if _, err := dispatcher.Dispatch(as(t, "initech"), task.Task{Kind: "words", ID: "1", Group: group, Payload: json.RawMessage(`{"text":"One."}`)}); err != nil {
		t.Fatal(err)
	}
	f.startPython(t, "--redis", "redis://"+f.server.Addr+"/3", "--redis-state", "redis://"+state.Addr+"/0")
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	for _, kind := range []string{"words_progress", "task_complete"} {
		m, err := heard.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v\n%s", kind, err, f.log)
		}
		if m.Channel != "orgcast@3:{initech}:group:jobs" || !strings.Contains(m.Payload, kind) {
			t.Errorf("got %s on %s, want %s on the channel of database 3", m.Payload, m.Channel, kind)
		}
	}
}

// A worker in another language follows the same format and keeps the same promises.
func TestPythonWorker(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	stream := f.keys.Tasks("words")
	// A task of a worker that died while running it.
	f.dispatchWords(t, "acme", "1", `{"text":"Of a worker. That died."}`)
	if f.read(t, "words", "dead") == nil {
		t.Fatal("got no task")
	}
	f.dispatchWords(t, "globex", "1", `{"text":"Grüße aus Köln."}`)
	f.dispatchWords(t, "globex", "2", `{"no":"text"}`)
	f.dispatchWords(t, "closed", "1", `{"text":"a"}`)
	f.dispatchWords(t, "nowhere", "1", `{"text":"a"}`)
	for _, fields := range [][]any{
		{"kind", "words", "id", "1", "group", "jobs", "payload", `{"text":"a"}`},
		{"organization_id", "a}:b", "kind", "words", "id", "1", "group", "jobs"},
		{"organization_id", "acme", "kind", "words", "id", "9", "group", "jobs", "payload", "{"},
		{"organization_id", "acme", "kind", "words", "id", "9", "group", "jobs", "payload", "NaN"},
		{"organization_id", "acme", "kind", "words", "id", "9", "group", "jobs", "payload", "\"\xff\""},
		{"organization_id", "acme", "kind", "words", "id", "9\n", "group", "jobs"},
		{"organization_id", "acme", "kind", "echo", "id", "9", "group", "jobs"},
		{"organization_id", "acme", "kind", "words", "id", "9", "group", "jobs", "user_id", "a\u202eb"},
	} {
		if err := f.client.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: fields}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := f.startPython(t)
	testkit.Eventually(t, "no task is open", func() bool { return f.open(t, "words") == 0 })
	want := map[string][]object{
		"acme": {
			{"type": "words_progress", "organization_id": "acme", "task_id": "1", "done": 1.0, "of": 2.0},
			{"type": "words_progress", "organization_id": "acme", "task_id": "1", "done": 2.0, "of": 2.0},
			{"type": "task_complete", "organization_id": "acme", "task_id": "1", "words": 5.0},
		},
		"globex": {
			{"type": "words_progress", "organization_id": "globex", "task_id": "1", "done": 1.0, "of": 1.0},
			{"type": "task_complete", "organization_id": "globex", "task_id": "1", "words": 3.0},
			{"type": "task_failed", "organization_id": "globex", "task_id": "2", "code": "no_text"},
		},
		"closed": {{"type": "task_failed", "organization_id": "closed", "task_id": "1", "code": "refused"}},
	}
	got := make(map[string][]object)
	for _, s := range h.expect(t, 7) {
		org, _, _ := strings.Cut(strings.TrimPrefix(s.channel, "orgcast:{"), "}")
		got[org] = append(got[org], s.fields)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events: want (-), got (+):\n%s\n%s", diff, f.log)
	}
	for org, events := range want {
		var recorded []object
		for _, s := range f.history(t, testkit.Group(t, org, "jobs")) {
			recorded = append(recorded, s.fields)
		}
		if diff := cmp.Diff(events, recorded); diff != "" {
			t.Errorf("history of %s: want (-), got (+):\n%s", org, diff)
		}
	}
	var reasons []string
	for _, m := range f.client.XRange(t.Context(), stream+":dead", "-", "+").Val() {
		reasons = append(reasons, m.Values["dead_reason"].(string))
	}
	slices.Sort(reasons)
	wantReasons := []string{
		"malformed", "malformed", "malformed", "malformed", "malformed", "malformed", "no_organization", "no_organization",
		"no_text", "organization_suspended", "organization_unknown",
	}
	if diff := cmp.Diff(wantReasons, reasons); diff != "" {
		t.Errorf("dead letters: want (-), got (+):\n%s\n%s", diff, f.log)
	}
	// After SIGTERM, it stops in order.
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("end: %v\n%s", err, f.log)
	}
}

// Errors of Redis do not end a Python worker, and it continues after a crash of Redis.
func TestPythonWorkerOutlivesRedis(t *testing.T) {
	f := newFixture(t, "--appendonly", "yes", "--appendfsync", "always")
	stream := f.keys.Tasks("words")
	done := func() { testkit.Eventually(t, "no task is open", func() bool { return f.open(t, "words") == 0 }) }
	if err := f.client.Set(t.Context(), stream, "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	cmd := f.startPython(t)
	testkit.Eventually(t, "it complains", func() bool { return strings.Contains(f.log.String(), "WRONGTYPE") })
	f.client.Del(t.Context(), stream)
	f.dispatchWords(t, "acme", "1", `{"text":"One."}`)
	done()
	f.server.Restart()
	testkit.Eventually(t, "Redis answers", func() bool { return f.client.Ping(t.Context()).Err() == nil })
	for _, org := range []string{"acme", "globex"} {
		f.dispatchWords(t, org, "2", `{"text":"One. Two."}`)
	}
	done()
	for org, want := range map[string]int{"acme": 5, "globex": 3} { // one step for each sentence, and the end
		if got := len(f.history(t, testkit.Group(t, org, "jobs"))); got != want {
			t.Errorf("history of %s: got %d events, want %d\n%s", org, got, want, f.log)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("end: %v\n%s", err, f.log)
	}
}
