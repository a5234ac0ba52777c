package task_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

// A live worker renews its claim, however long the task runs, so another worker does not take it.
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

// A live worker that was silent for too long loses its task. If it still ends the task after the
// other worker has, there is only one terminal event.
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
	go func() { stopped <- stop() }() // it takes no more tasks
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

// An attempt died between the terminal event and the acknowledgment. The next worker finishes its
// entry.
func TestEndedTaskDoesNotRunAgain(t *testing.T) {
	for how, dead := range map[string]int{"complete": 0, "failed": 1} {
		t.Run(how, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			if err := f.client.Set(t.Context(), f.keys.TaskEnd(testkit.Org(t, "acme"), "job", "1"), how, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			f.dispatch(t, "acme", "1", `null`)
			f.dispatch(t, "globex", "1", `null`) // not ended, because it belongs to another organization
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

// A task that kills its workers still ends.
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

// TestRedisCrashesMeanwhile: a Redis that keeps everything it has acknowledged is killed twice
// while workers run. Every job of each organization still ends, and its history has one terminal
// event.
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
	o.Attempts = 100 // an attempt that fails because of Redis counts
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
		if got := len(f.history(t, testkit.Group(t, org, "board"))); got != each-each/11-1 { // failing jobs are not on the board
			t.Errorf("board of %s: got %d events", org, got)
		}
	}
}
