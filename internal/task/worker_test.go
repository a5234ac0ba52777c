package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

type object = map[string]any

func TestTaskFromStartToEnd(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	tools := newTools(f, map[string]task.Tool{"who": func(ctx context.Context, _ *task.Store, _ json.RawMessage) (json.RawMessage, error) {
		org, _ := orgctx.From(ctx)
		return json.Marshal(org)
	}})
	o := f.options()
	o.Tools = tools
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		if err := job.Progress(ctx, object{"type": "step", "user": job.UserID, "payload": job.Payload}); err != nil {
			return nil, err
		}
		if err := job.Store.Set(ctx, "seen", []byte(job.ID), 0); err != nil {
			return nil, err
		}
		who, err := task.RunTool(ctx, "who", json.RawMessage(`null`))
		return object{"type": "audit.complete", "who": who, "attempt": job.Attempt}, err
	}), o)
	f.dispatch(t, "acme", "1", `{"n":1}`)
	f.dispatch(t, "globex", "1", `{"n":2}`)
	f.expectDone(t)
	want := map[string][]object{
		"acme": {
			{"type": "step", "organization_id": "acme", "user": "7", "payload": object{"n": 1.0}},
			{"type": "audit.complete", "organization_id": "acme", "who": "acme", "attempt": 1.0},
		},
		"globex": {
			{"type": "step", "organization_id": "globex", "user": "7", "payload": object{"n": 2.0}},
			{"type": "audit.complete", "organization_id": "globex", "who": "globex", "attempt": 1.0},
		},
	}
	got := make(map[string][]object)
	for _, s := range h.expect(t, 4) {
		org, _, _ := strings.Cut(strings.TrimPrefix(s.channel, "orgcast:{"), "}")
		got[org] = append(got[org], s.fields)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events: want (-), got (+):\n%s", diff)
	}
	if got := f.client.Get(t.Context(), "orgcast:{globex}:store:seen").Val(); got != "1" {
		t.Errorf("store of globex: got %q, want 1", got)
	}
	if dead := f.dead(t); len(dead) != 0 {
		t.Errorf("dead letters: got %v, want none", dead)
	}
	if got := f.counter(t, "orgcast_tasks_ended_total", "complete"); got != 2 {
		t.Errorf("ended: got %v, want 2", got)
	}
}

// Work running although the organization is unknown.
func TestRefusedEntries(t *testing.T) {
	tests := map[string]struct {
		fields []any
		reason string
	}{
		"no organization":        {[]any{"kind", "job", "id", "1", "group", "jobs", "payload", `"secret"`}, "no_organization"},
		"empty organization":     {[]any{"organization_id", "", "kind", "job", "id", "1", "group", "jobs"}, "no_organization"},
		"unknown organization":   {[]any{"organization_id", "nowhere", "kind", "job", "id", "1", "group", "jobs"}, "organization_unknown"},
		"suspended organization": {[]any{"organization_id", "closed", "kind", "job", "id", "1", "group", "jobs"}, "organization_suspended"},
		"payload no JSON":        {[]any{"organization_id", "acme", "kind", "job", "id", "1", "group", "jobs", "payload", "secret"}, "malformed"},
		"no id":                  {[]any{"organization_id", "acme", "kind", "job", "group", "jobs"}, "malformed"},
		"another kind":           {[]any{"organization_id", "acme", "kind", "jobs", "id", "1", "group", "jobs"}, "malformed"},
		"foreign channel":        {[]any{"organization_id", "acme", "kind", "job", "id", "1", "group", "orgcast:{globex}:group:jobs"}, "malformed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			f.add(t, test.fields...)
			var ran atomic.Bool
			f.work(t, only(func(context.Context, *task.Job) (any, error) {
				ran.Store(true)
				return nil, nil
			}), f.options())
			f.expectDone(t)
			dead := f.dead(t)
			if len(dead) != 1 || dead[0]["dead_reason"] != test.reason {
				t.Fatalf("dead letters: got %v, want one for %s", dead, test.reason)
			}
			for i := 0; i < len(test.fields); i += 2 {
				if got := dead[0][test.fields[i].(string)]; got != test.fields[i+1] {
					t.Errorf("dead letter's %v: got %v, want %v", test.fields[i], got, test.fields[i+1])
				}
			}
			if ran.Load() {
				t.Error("the handler ran")
			}
			// Nobody is told of an organization that does not exist, or of what is no task.
			if got := h.events(); len(got) != 0 && test.reason != "organization_suspended" {
				t.Errorf("published: %v", got)
			}
			if got := f.counter(t, "orgcast_tasks_refused_total", test.reason); got != 1 {
				t.Errorf("refused: got %v, want 1", got)
			}
			if log := f.log.String(); !strings.Contains(log, test.reason) || strings.Contains(log, "secret") {
				t.Errorf("log: want the reason and no payload, got %s", log)
			}
		})
	}
}

// TestRefusedWorkEnds: the viewers of work that is refused because its organization is suspended learn
// that it has ended, once, in the words of its kind. Jobs without a terminal event.
func TestRefusedWorkEnds(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	f.work(t, map[string]task.Kind{
		"job": {Run: func(context.Context, *task.Job) (any, error) {
			t.Error("the handler ran")
			return nil, nil
		}, Failed: func(_ *task.Job, code string) any {
			return task.End{Event: object{"type": "job_failed", "why": code}, Also: []task.Notice{{Group: "board.1", Event: object{"type": "row", "status": "failed"}}}}
		}},
	}, f.options())
	for range 2 { // the entry comes twice, the end once
		f.add(t, "organization_id", "closed", "kind", "job", "id", "1", "group", "jobs")
	}
	f.expectDone(t)
	want := map[string]object{
		"orgcast:{closed}:group:jobs":    {"type": "job_failed", "why": task.CodeRefused, "organization_id": "closed"},
		"orgcast:{closed}:group:board.1": {"type": "row", "status": "failed", "organization_id": "closed"},
	}
	got := make(map[string]object)
	for _, s := range h.expect(t, 2) {
		got[s.channel] = s.fields
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published: want (-), got (+):\n%s", diff)
	}
	for _, letter := range f.dead(t) {
		if letter["dead_reason"] != "organization_suspended" {
			t.Errorf("dead letter: got %v, want organization_suspended", letter["dead_reason"])
		}
	}
}

// Jobs without a terminal event; exception text to clients.
func TestFailures(t *testing.T) {
	plain := func(code string) object {
		return object{"type": "task_failed", "task_id": "1", "organization_id": "acme", "code": code}
	}
	tests := map[string]struct {
		run    task.Handler
		failed func(*task.Job, string) any
		change func(*task.Options)
		want   object
		runs   int
	}{
		"errors": {
			run:  func(context.Context, *task.Job) (any, error) { return nil, errors.New("secret") },
			want: plain("failed"), runs: 3,
		},
		"panics": {
			run:  func(context.Context, *task.Job) (any, error) { panic("secret") },
			want: plain("panic"), runs: 3,
		},
		"gives up": {
			run:  func(context.Context, *task.Job) (any, error) { return nil, task.Fail("no_such_page") },
			want: plain("no_such_page"), runs: 1,
		},
		"takes too long": {
			run: func(ctx context.Context, _ *task.Job) (any, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
			change: func(o *task.Options) { o.Timeout = 10 * time.Millisecond },
			want:   plain("timeout"), runs: 3,
		},
		"event of its own": {
			run: func(context.Context, *task.Job) (any, error) { return nil, task.Fail("gone") },
			failed: func(job *task.Job, code string) any {
				return object{"type": "audit.error", "data": object{"job": job.ID, "code": code}}
			},
			want: object{"type": "audit.error", "organization_id": "acme", "data": object{"job": "1", "code": "gone"}}, runs: 1,
		},
		"event of its own panics": {
			run:    func(context.Context, *task.Job) (any, error) { return nil, task.Fail("gone") },
			failed: func(*task.Job, string) any { panic("secret") },
			want:   plain("gone"), runs: 1,
		},
		"event of its own is foreign": {
			run:    func(context.Context, *task.Job) (any, error) { return nil, task.Fail("gone") },
			failed: func(*task.Job, string) any { return object{"type": "x", "organization_id": "globex"} },
			want:   plain("gone"), runs: 1,
		},
		"result without type": {
			run:  func(context.Context, *task.Job) (any, error) { return object{"secret": 1}, nil },
			want: plain("bad_result"), runs: 1,
		},
		"result no JSON": {
			run:  func(context.Context, *task.Job) (any, error) { return func() {}, nil },
			want: plain("bad_result"), runs: 1,
		},
		"result for another organization": {
			run: func(context.Context, *task.Job) (any, error) {
				return object{"type": "task_complete", "organization_id": "globex"}, nil
			},
			want: plain("bad_result"), runs: 1,
		},
		"result too large": {
			run: func(context.Context, *task.Job) (any, error) {
				return object{"type": "task_complete", "text": strings.Repeat("a", event.DefaultMaxSize)}, nil
			},
			want: plain("bad_result"), runs: 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			o := f.options()
			if test.change != nil {
				test.change(&o)
			}
			var runs atomic.Int32
			f.work(t, map[string]task.Kind{"job": {Failed: test.failed, Run: func(ctx context.Context, job *task.Job) (any, error) {
				if got := int(runs.Add(1)); job.Attempt != got {
					t.Errorf("Attempt: got %d, want %d", job.Attempt, got)
				}
				return test.run(ctx, job)
			}}}, o)
			f.dispatch(t, "acme", "1", `null`)
			f.expectDone(t)
			if diff := cmp.Diff(test.want, h.expect(t, 1)[0].fields); diff != "" {
				t.Errorf("terminal event: want (-), got (+):\n%s", diff)
			}
			if got := int(runs.Load()); got != test.runs {
				t.Errorf("got %d runs, want %d", got, test.runs)
			}
			code, _ := h.events()[0].fields["code"].(string)
			if dead := f.dead(t); len(dead) != 1 || dead[0]["id"] != "1" || code != "" && dead[0]["dead_reason"] != code {
				t.Errorf("dead letters: got %v, want the task for %s", dead, code)
			}
			if log := f.log.String(); name == "panics" && (strings.Contains(log, "secret") || !strings.Contains(log, "worker_test.go")) {
				t.Errorf("log: want the stack and not what was panicked with, got %s", log)
			}
		})
	}
}

func TestRetriesUntilItSucceeds(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	f.work(t, only(func(_ context.Context, job *task.Job) (any, error) {
		if job.Attempt < 3 {
			panic("not yet")
		}
		return nil, nil
	}), f.options())
	f.dispatch(t, "acme", "1", `null`)
	f.expectDone(t)
	want := object{"type": "task_complete", "task_id": "1", "organization_id": "acme"}
	if diff := cmp.Diff(want, h.expect(t, 1)[0].fields); diff != "" {
		t.Errorf("terminal event: want (-), got (+):\n%s", diff)
	}
	if len(f.dead(t)) != 0 {
		t.Error("a task that succeeded is a dead letter")
	}
}

// A handler that never returns costs its slot, and its task still ends.
func TestHandlerIgnoresItsDeadline(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	o := f.options()
	o.Timeout, o.Grace = 300*time.Millisecond, 10*time.Millisecond // a quick one has three attempts at that
	release := make(chan struct{})
	late := make(chan error, 1)
	stop := f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		if job.ID == "quick" {
			return nil, nil
		}
		<-release
		late <- job.Progress(context.WithoutCancel(ctx), object{"type": "too_late"})
		return nil, nil
	}), o)
	f.dispatch(t, "acme", "stuck", `null`)
	h.expect(t, 1)
	f.dispatch(t, "acme", "quick", `null`)
	f.expectDone(t)
	close(release)
	if err := <-late; !errors.Is(err, task.ErrEnded) {
		t.Errorf("Progress after the end: got %v, want ErrEnded", err)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got, want := h.types("acme"), []string{"task_failed", "task_complete"}; !slices.Equal(got, want) {
		t.Errorf("events: got %v, want %v", got, want)
	}
}

// Context left behind by a previous task.
func TestPreviousTaskLeavesNothingBehind(t *testing.T) {
	f := newFixture(t)
	o := f.options()
	o.Concurrency = 1 // one after the other
	var mu sync.Mutex
	var order []string
	var kept *task.Job
	var keptCtx context.Context
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		org, _ := orgctx.From(ctx)
		order = append(order, org.String())
		var want string
		if err := json.Unmarshal(job.Payload, &want); err != nil || org.String() != want || job.Organization() != org {
			t.Errorf("got organization %s, want %s, %v", org, want, err)
		}
		if kept != nil && kept.Organization() != org {
			if keptCtx.Err() == nil {
				t.Error("the context of the previous task goes on")
			}
			if _, err := kept.Store.Get(ctx, "x"); !errors.Is(err, task.ErrForeign) {
				t.Errorf("store of the previous task: got %v, want ErrForeign", err)
			}
			if err := kept.Progress(ctx, object{"type": "x"}); !errors.Is(err, task.ErrForeign) {
				t.Errorf("Progress of the previous task: got %v, want ErrForeign", err)
			}
		}
		kept, keptCtx = job, ctx
		if job.Attempt == 1 {
			panic("left in the middle")
		}
		return nil, nil
	}), o)
	for i := range 10 {
		org := []string{"acme", "globex"}[i%2]
		f.dispatch(t, org, fmt.Sprint(i/2), `"`+org+`"`)
	}
	f.expectDone(t)
	mu.Lock()
	defer mu.Unlock()
	if len(order) != 20 {
		t.Errorf("got %d runs, want each task twice: %v", len(order), order)
	}
}

// Whoever starts a worker with an organization in hand does not lend it to tasks.
func TestWorkerInheritsNoOrganization(t *testing.T) {
	f := newFixture(t)
	asked := make(chan bool, 10)
	dir := directoryFunc(func(ctx context.Context, _ orgctx.ID) error {
		_, ok := orgctx.From(ctx)
		asked <- ok
		return nil
	})
	w, err := task.NewWorker(f.client, f.keys, dir, only(func(context.Context, *task.Job) (any, error) { return nil, nil }), f.options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(as(t, "globex"))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	f.dispatch(t, "acme", "1", `null`)
	f.expectDone(t)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if <-asked {
		t.Error("the directory was asked under an organization")
	}
}

type directoryFunc func(context.Context, orgctx.ID) error

func (d directoryFunc) OrganizationActive(ctx context.Context, org orgctx.ID) error {
	return d(ctx, org)
}

// A directory that does not answer costs a task no attempt.
func TestDirectoryAway(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	var asked atomic.Int32
	dir := directoryFunc(func(context.Context, orgctx.ID) error {
		if asked.Add(1) <= 5 {
			return fmt.Errorf("%w: timeout", directory.ErrUnavailable)
		}
		return nil
	})
	w, err := task.NewWorker(f.client, f.keys, dir, only(func(_ context.Context, job *task.Job) (any, error) {
		return object{"type": "done", "attempt": job.Attempt}, nil
	}), f.options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	f.dispatch(t, "acme", "1", `null`)
	f.expectDone(t)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := h.expect(t, 1)[0].fields["attempt"]; got != 1.0 {
		t.Errorf("attempt: got %v, want 1", got)
	}
}

func TestStopGivesTasksBack(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	o := f.options()
	o.Drain, o.Takeover = time.Millisecond, time.Hour // nobody waits for a worker that says goodbye
	started := make(chan struct{})
	stop := f.work(t, only(func(ctx context.Context, _ *task.Job) (any, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}), o)
	f.dispatch(t, "acme", "1", `null`)
	<-started
	if err := stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	o.Registerer = nil
	f.work(t, only(func(_ context.Context, job *task.Job) (any, error) {
		return object{"type": "done", "attempt": job.Attempt}, nil
	}), o)
	f.expectDone(t)
	if got := h.expect(t, 1)[0].fields["attempt"]; got != 1.0 {
		t.Errorf("attempt: got %v, want 1: being stopped is no failure", got)
	}
}

func TestStopLetsTasksFinish(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	stop := f.work(t, only(func(context.Context, *task.Job) (any, error) {
		close(started)
		<-goOn
		return nil, nil
	}), f.options())
	f.dispatch(t, "acme", "1", `null`)
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(goOn)
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	h.expect(t, 1)
	consumers, err := f.client.XInfoConsumers(t.Context(), f.keys.Tasks("job"), "workers").Result()
	if err != nil || len(consumers) != 0 {
		t.Errorf("consumers after the goodbye: got %v, %v, want none", consumers, err)
	}
}

// A live worker renews its claim, however long the task: the other one does not take it.
func TestLongTaskStaysWithItsWorker(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	o := f.options()
	var runs atomic.Int32
	handler := only(func(ctx context.Context, _ *task.Job) (any, error) {
		runs.Add(1)
		select {
		case <-time.After(3 * o.Takeover):
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	f.work(t, handler, o)
	o.Registerer = nil
	f.work(t, handler, o)
	f.dispatch(t, "acme", "1", `null`)
	f.expectDone(t)
	h.expect(t, 1)
	if got := runs.Load(); got != 1 {
		t.Errorf("got %d runs, want 1", got)
	}
}

// A worker that was silent for too long and lives loses its task. If it brings the task to an end
// all the same, after the other one has, the task has still ended once.
func TestTaskTakenFromSlowWorker(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	started, lost, goOn := make(chan struct{}), make(chan error, 1), make(chan struct{})
	stop := f.work(t, only(func(ctx context.Context, _ *task.Job) (any, error) {
		close(started)
		<-ctx.Done()
		lost <- context.Cause(ctx)
		<-goOn
		return object{"type": "slow"}, nil
	}), f.options())
	f.dispatch(t, "acme", "1", `null`)
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }() // it takes nothing more
	// Another worker claims the entry and dies.
	stream := f.keys.Tasks("job")
	pending, err := f.client.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: stream, Group: "workers", Start: "-", End: "+", Count: 1}).Result()
	if err != nil || len(pending) != 1 {
		t.Fatalf("pending: %v, %v", pending, err)
	}
	if err := f.client.XClaim(t.Context(), &redis.XClaimArgs{Stream: stream, Group: "workers", Consumer: "other", Messages: []string{pending[0].ID}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-lost; err == nil || !strings.Contains(err.Error(), "taken over") {
		t.Errorf("cause of the end: got %v", err)
	}
	o := f.options()
	o.Registerer = nil
	f.work(t, only(func(context.Context, *task.Job) (any, error) { return object{"type": "quick"}, nil }), o)
	f.expectDone(t)
	close(goOn)
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := h.expect(t, 1)[0].fields["type"]; got != "quick" {
		t.Errorf("terminal event: got %v, want quick", got)
	}
}

// What an attempt that died between the terminal event and the acknowledgment leaves to do.
func TestEndedTaskDoesNotRunAgain(t *testing.T) {
	for how, dead := range map[string]int{"complete": 0, "failed": 1} {
		t.Run(how, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			if err := f.client.Set(t.Context(), f.keys.TaskEnd(testkit.Org(t, "acme"), "job", "1"), how, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			f.dispatch(t, "acme", "1", `null`)
			f.dispatch(t, "globex", "1", `null`) // not ended: another organization
			var ran atomic.Int32
			f.work(t, only(func(context.Context, *task.Job) (any, error) {
				ran.Add(1)
				return nil, nil
			}), f.options())
			f.expectDone(t)
			h.expect(t, 1)
			if got := h.types("globex"); ran.Load() != 1 || len(got) != 1 {
				t.Errorf("got %d runs, events of globex %v, want the one of globex", ran.Load(), got)
			}
			if got := len(f.dead(t)); got != dead {
				t.Errorf("dead letters: got %d, want %d", got, dead)
			}
		})
	}
}

// A task that kills its workers ends after all.
func TestPoisonThatKillsWorkers(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	f.dispatch(t, "acme", "1", `null`)
	stream := f.keys.Tasks("job")
	read := f.read(t, "job", "dead")
	if err := f.client.Do(t.Context(), "XCLAIM", stream, "workers", "dead", 0, read["entry"], "RETRYCOUNT", 3, "IDLE", 3600_000, "JUSTID").Err(); err != nil {
		t.Fatal(err)
	}
	var ran atomic.Bool
	f.work(t, only(func(context.Context, *task.Job) (any, error) {
		ran.Store(true)
		return nil, nil
	}), f.options())
	f.expectDone(t)
	if got := h.expect(t, 1)[0].fields; got["type"] != "task_failed" || got["code"] != "crashed" || ran.Load() {
		t.Errorf("got %v, ran %v, want task_failed with code crashed", got, ran.Load())
	}
	if dead := f.dead(t); len(dead) != 1 || dead[0]["dead_reason"] != "crashed" {
		t.Errorf("dead letters: got %v", dead)
	}
}

func TestRedisComesBackEmpty(t *testing.T) {
	f := newFixture(t)
	f.work(t, only(func(context.Context, *task.Job) (any, error) { return nil, nil }), f.options())
	f.dispatch(t, "acme", "1", `null`)
	f.expectDone(t)
	f.server.Restart()
	testkit.Eventually(t, "Redis answers", func() bool { return f.client.Ping(t.Context()).Err() == nil })
	f.fill(t)
	h := f.listen(t)
	f.dispatch(t, "acme", "2", `null`)
	f.expectDone(t)
	h.expect(t, 1)
}

// TestRedisCrashesMeanwhile: a Redis that keeps what it has acknowledged is killed twice while workers are
// at it. Every job of each organization ends all the same, and its history has one terminal event.
func TestRedisCrashesMeanwhile(t *testing.T) {
	f := newFixture(t, "--appendonly", "yes", "--appendfsync", "always")
	orgs := []string{"acme", "globex"} // which share all ids
	const each = 60
	for i := range each {
		for _, org := range orgs {
			f.dispatch(t, org, fmt.Sprintf("job-%d", i), `null`)
		}
	}
	o := f.options()
	o.Attempts = 100 // an attempt that Redis spoils counts
	f.work(t, map[string]task.Kind{"job": {Run: slowJob}}, o)
	o.Registerer = nil
	f.work(t, map[string]task.Kind{"job": {Run: slowJob}}, o)
	open := func() int64 {
		if n := f.open(t, "job"); n >= 0 {
			return n
		}
		return each * int64(len(orgs))
	}
	for _, left := range []int64{80, 40} {
		testkit.Eventually(t, fmt.Sprintf("%d jobs are left", left), func() bool { return open() <= left })
		f.server.Restart()
		if left > 40 && open() == 0 {
			t.Fatal("nothing is left to do for the second crash")
		}
	}
	testkit.Eventually(t, "no task is open", func() bool { return open() == 0 })
	for _, org := range orgs {
		ends := make(map[string]int)
		for _, s := range f.history(t, testkit.Group(t, org, "jobs")) {
			if s.fields["organization_id"] != org || s.fields["says"] != nil && s.fields["says"] != org {
				t.Errorf("history of %s: got %v", org, s.fields)
			}
			if s.fields["type"] != "step" {
				ends[s.fields["task_id"].(string)]++
			}
		}
		for i := range each {
			if id := fmt.Sprintf("job-%d", i); ends[id] != 1 {
				t.Errorf("%s of %s: got %d terminal events, want one", id, org, ends[id])
			}
		}
		if got := len(f.history(t, testkit.Group(t, org, "board"))); got != each-each/11-1 { // those that fail tell no board
			t.Errorf("board of %s: got %d events", org, got)
		}
	}
}

// A question outlives the attempt that asked it.
func TestTaskAsksAPerson(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	asks, err := task.NewAsks(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		opened, err := asks.Open(ctx, job.ID, 0, json.RawMessage(`"sure?"`), 0)
		if err != nil {
			return nil, err
		}
		if opened {
			if err := job.Progress(ctx, object{"type": "human_input_request", "execution_id": job.ID, "task_index": 0, "prompt": "sure?"}); err != nil {
				return nil, err
			}
		}
		input, err := asks.Wait(ctx, job.ID, 0)
		if err == nil && job.Attempt == 1 {
			panic("after the answer")
		}
		return object{"type": "task_complete", "input": input}, err
	}), f.options())
	f.dispatch(t, "acme", "e1", `null`)
	f.dispatch(t, "globex", "e1", `null`)
	h.expect(t, 2)
	for _, org := range []string{"globex", "acme"} {
		if err := asks.Answer(as(t, org), "e1", 0, "yes, "+org); err != nil {
			t.Errorf("Answer of %s: %v", org, err)
		}
	}
	f.expectDone(t)
	for _, s := range h.expect(t, 4) {
		if input, ok := s.fields["input"]; ok && input != "yes, "+s.fields["organization_id"].(string) {
			t.Errorf("%s got the input %v", s.channel, input)
		}
	}
}

func TestNewWorkerRefuses(t *testing.T) {
	f := newFixture(t)
	for name, kinds := range map[string]map[string]task.Kind{
		"nothing": nil, "no handler": only(nil), "bad kind": {"a:b": {Run: func(context.Context, *task.Job) (any, error) { return nil, nil }}},
	} {
		if _, err := task.NewWorker(f.client, f.keys, f.directory, kinds, task.Options{}); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
