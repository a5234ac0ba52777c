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

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

// Faults: jobs without a terminal event; exception text shown to clients.
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
			if log := f.log.String(); name == "panics" && (strings.Contains(log, "secret") || !strings.Contains(log, "attempt_test.go")) {
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

// A handler that never returns occupies its slot, and its task still ends.
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

// Fault: context left behind by a previous task.
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

// A worker that is started in an organization's context does not pass that context to tasks.
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
