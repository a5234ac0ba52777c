package task_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

// workerProcess makes this test binary a worker that serves until it is killed.
var workerProcess = flag.String("task.worker", "", "run as a worker on the Redis at this address, under the name in the argument")

// TestWorkerProcess is not a test, but the process that [startWorkerProcess] runs.
func TestWorkerProcess(t *testing.T) {
	if *workerProcess == "" {
		return
	}
	client := newClient(*workerProcess)
	keys := testkit.Keys(t)
	dir, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]task.Kind{"job": {Run: slowJob, Failed: func(job *task.Job, code string) any {
		return over(job, object{"type": "task_failed", "task_id": job.ID, "code": code})
	}}}
	w, err := task.NewWorker(client, keys, dir, kinds, task.Options{
		Name: flag.Arg(0), Concurrency: 4, Attempts: 10, Backoff: 10 * time.Millisecond,
		Takeover: 2 * time.Second, Poll: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Run(context.Background())
}

// slowJob reports its organization at its start, middle and end. Every seventh job fails at first,
// and every eleventh always.
func slowJob(ctx context.Context, job *task.Job) (any, error) {
	var number int
	_, _ = fmt.Sscanf(job.ID, "job-%d", &number)
	org, _ := orgctx.From(ctx)
	if err := job.Progress(ctx, object{"type": "step", "task_id": job.ID, "says": org}); err != nil {
		return nil, err
	}
	select {
	case <-time.After(time.Duration(10+number%20) * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case number%11 == 0:
		return nil, task.Fail("eleventh")
	case number%7 == 0 && job.Attempt == 1:
		panic("seventh")
	}
	return over(job, object{"type": "task_complete", "task_id": job.ID, "says": org}), nil
}

// over is an end that is also announced on the board.
func over(job *task.Job, terminal object) task.End {
	return task.End{Event: terminal, Also: []task.Notice{{Group: "board", Event: object{"type": "moved", "task_id": job.ID, "says": job.Organization()}}}}
}

// startWorkerProcess starts a process that is killed at the end of the test at the latest.
func startWorkerProcess(t *testing.T, addr, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestWorkerProcess$", "-test.timeout=10m", "-task.worker="+addr, name)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// killInTheMiddle stops the process while it is working, then kills it. Its consumer name begins
// with the given one.
func (f *fixture) killInTheMiddle(t *testing.T, cmd *exec.Cmd, name string) {
	t.Helper()
	signal := func(s syscall.Signal) {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatalf("signal to worker: %v", err)
		}
	}
	testkit.Eventually(t, "worker is in the middle of a task", func() bool {
		signal(syscall.SIGSTOP)
		held, err := f.client.XPendingExt(t.Context(), &redis.XPendingExtArgs{
			Stream: f.keys.Tasks("job"), Group: "workers", Start: "-", End: "+", Count: 100,
		}).Result()
		if err == nil && slices.ContainsFunc(held, func(p redis.XPendingExt) bool { return strings.HasPrefix(p.Consumer, name) }) {
			signal(syscall.SIGKILL)
			return true
		}
		signal(syscall.SIGCONT)
		return false
	})
	_ = cmd.Wait()
}

// TestWorkersKilledInTheMiddle: each of 200 jobs of 5 organizations ends once, although workers are
// killed, and is announced once on the board.
func TestWorkersKilledInTheMiddle(t *testing.T) {
	f := newFixture(t)
	f.killWorkers(t, true, func(name string) (*exec.Cmd, string) { return startWorkerProcess(t, f.server.Addr, name), name })
}

// TestPythonWorkersKilledInTheMiddle does the same with workers in Python, which do not use a
// board.
func TestPythonWorkersKilledInTheMiddle(t *testing.T) {
	f := newFixture(t)
	f.killWorkers(t, false, func(string) (*exec.Cmd, string) {
		cmd := f.startPythonScript(t, "testdata/slowjob.py", "--attempts", "10")
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		return cmd, fmt.Sprintf("%s-%d-", host, cmd.Process.Pid)
	})
}

// killWorkers makes workers do 200 jobs and kills two of them. start starts a worker and returns
// its process and its consumer name. board says whether the handlers announce ends on the board
// too.
func (f *fixture) killWorkers(t *testing.T, board bool, start func(name string) (*exec.Cmd, string)) {
	t.Helper()
	h := f.listen(t)
	orgs := []string{"acme", "globex", "initech", "umbrella", "hooli"}
	for _, org := range orgs {
		if err := f.directory.PutOrganization(t.Context(), testkit.Org(t, org), directory.Active); err != nil {
			t.Fatal(err)
		}
	}
	const each = 40
	for i := range each {
		for _, org := range orgs { // which share all ids
			f.dispatch(t, org, fmt.Sprintf("job-%d", i), `null`)
		}
	}
	of := func(ends bool) (n int) {
		for _, s := range h.events() {
			if kind := s.fields["type"]; kind != "step" && ends == (kind != "moved") {
				n++
			}
		}
		return n
	}
	first, firstName := start("first")
	second, secondName := start("second")
	testkit.Eventually(t, "a quarter of the jobs", func() bool { return of(true) >= each*len(orgs)/4 })
	f.killInTheMiddle(t, first, firstName)
	start("third")
	testkit.Eventually(t, "half of the jobs", func() bool { return of(true) >= each*len(orgs)/2 })
	f.killInTheMiddle(t, second, secondName)
	start("fourth")
	f.expectDone(t)
	moves := 0
	if board {
		moves = 1
	}
	testkit.Eventually(t, "the last events", func() bool { return of(true) >= each*len(orgs) && of(false) >= moves*each*len(orgs) })
	f.checkEnds(t, h.events(), orgs, each, moves)
}

// checkEnds checks that each job of each organization ended once, and was announced on the board as
// often.
func (f *fixture) checkEnds(t *testing.T, events []said, orgs []string, each, wantMoves int) {
	t.Helper()
	type job struct{ org, id string }
	ends, starts, moves := make(map[job]int), make(map[job]int), make(map[job]int)
	for _, s := range events {
		org, _ := s.fields["organization_id"].(string)
		id, _ := s.fields["task_id"].(string)
		want := "orgcast:{" + org + "}:group:jobs"
		if s.fields["type"] == "moved" {
			want = "orgcast:{" + org + "}:group:board"
		}
		if s.channel != want {
			t.Errorf("event of %s on channel %s", org, s.channel)
		}
		if says, ok := s.fields["says"]; ok && says != org {
			t.Errorf("handler ran as %v, its event went to %s", says, org)
		}
		switch s.fields["type"] {
		case "step":
			starts[job{org, id}]++
			continue
		case "moved":
			moves[job{org, id}]++
			continue
		}
		ends[job{org, id}]++
		var number int
		_, _ = fmt.Sscanf(id, "job-%d", &number)
		want = "task_complete"
		if number%11 == 0 {
			want = "task_failed"
		}
		if s.fields["type"] != want {
			t.Errorf("%s of %s: got %v, want %s", id, org, s.fields, want)
		}
	}
	for i := range each {
		for _, org := range orgs {
			j := job{org, fmt.Sprintf("job-%d", i)}
			if ends[j] != 1 || moves[j] != wantMoves || starts[j] == 0 {
				t.Errorf("%s of %s: got %d terminal events, %d on the board and %d runs, want 1, %d and some", j.id, j.org, ends[j], moves[j], starts[j], wantMoves)
			}
		}
	}
	// The histories contain the same events as the channels, and none of another organization.
	for _, org := range orgs {
		if got := len(f.history(t, testkit.Group(t, org, "board"))); got != wantMoves*each {
			t.Errorf("history of the board of %s: got %d events, want %d", org, got, wantMoves*each)
		}
		recorded := make(map[string]int)
		for _, s := range f.history(t, testkit.Group(t, org, "jobs")) {
			if says, ok := s.fields["says"]; ok && says != org {
				t.Errorf("history of %s: got %v", org, s.fields)
			}
			if s.fields["type"] != "step" {
				id, _ := s.fields["task_id"].(string)
				recorded[id]++
			}
		}
		for i := range each {
			if id := fmt.Sprintf("job-%d", i); recorded[id] != 1 {
				t.Errorf("history of %s: got %d terminal events of %s, want one", org, recorded[id], id)
			}
		}
		if len(recorded) != each {
			t.Errorf("history of %s: got the ends of %d jobs, want %d", org, len(recorded), each)
		}
	}
	if len(ends) != each*len(orgs) {
		t.Errorf("got the ends of %d jobs, want %d", len(ends), each*len(orgs))
	}
	runs := 0
	for _, n := range starts {
		runs += n
	}
	t.Logf("%d jobs ended after %d runs", len(ends), runs)
	if got, want := len(f.dead(t)), len(orgs)*4; got < want || got > want+8 { // 0, 11, 22, 33; buried twice at worst if killed then
		t.Errorf("dead letters: got %d, want %d", got, want)
	}
}
