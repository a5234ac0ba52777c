package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

func (f *fixture) queues(t *testing.T) *task.Queues {
	t.Helper()
	q, err := task.NewQueues(f.client, f.keys, task.DispatcherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// states returns the tasks of an organization with their states, in order.
func states(t *testing.T, q *task.Queues, org string) (all []string) {
	t.Helper()
	err := q.Tasks(t.Context(), "job", testkit.Org(t, org), func(f task.Found) bool {
		all = append(all, f.ID+" "+f.State)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestQueuesShowWhereTasksAre(t *testing.T) {
	f := newFixture(t)
	q := f.queues(t)
	if c, err := q.Count(t.Context(), "job"); err != nil || c != (task.Counts{}) {
		t.Errorf("counts of nothing: got %+v, %v", c, err)
	}
	for i := range 3 {
		f.dispatch(t, "acme", fmt.Sprint("a", i), `{"n":1}`)
	}
	f.dispatch(t, "globex", "a0", `null`)
	f.read(t, "job", "w")
	f.add(t, "organization_id", "acme", "kind", "job", "id", "x", "group", "jobs")
	f.add(t, "organization_id", "acme", "kind", "job", "id", "broken:", "group", "jobs")
	if diff := cmp.Diff([]string{"a1 waiting", "a2 waiting", "a0 held", "x unread"}, states(t, q, "acme")); diff != "" {
		t.Errorf("acme: want (-), got (+):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a0 waiting"}, states(t, q, "globex")); diff != "" {
		t.Errorf("globex: want (-), got (+):\n%s", diff)
	}
	c, err := q.Count(t.Context(), "job")
	if err != nil || c.Waiting != 3 || c.WaitingBytes == 0 || c.Open != 3 || c.Held != 1 || c.Dead != 0 {
		t.Errorf("counts: got %+v, %v", c, err)
	}
	lines := make(map[string]int64)
	err = q.Lines(t.Context(), "job", func(l task.Line) bool {
		lines[l.Organization.String()] = l.Tasks
		if l.Bytes == 0 || l.Weight != 1 {
			t.Errorf("line: got %+v", l)
		}
		return true
	})
	if diff := cmp.Diff(map[string]int64{"acme": 2, "globex": 1}, lines); diff != "" || err != nil {
		t.Errorf("lines: %v, want (-), got (+):\n%s", err, diff)
	}
	got, err := q.Find(t.Context(), "job", testkit.Org(t, "acme"), "a1")
	if err != nil || string(got.Payload) != `{"n":1}` || got.UserID != "7" || got.Dispatched.IsZero() {
		t.Errorf("Find: got %+v, %v", got, err)
	}
	if _, err := q.Find(t.Context(), "job", testkit.Org(t, "globex"), "a1"); !errors.Is(err, task.ErrNoTask) {
		t.Errorf("task of another organization: got %v, want ErrNoTask", err)
	}
}

// TestDropEndsATask: wherever the task is, its group gets one terminal event, and the task does not
// run.
func TestDropEndsATask(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	q := f.queues(t)
	for i := range 3 {
		f.dispatch(t, "acme", fmt.Sprint("a", i), `null`)
		f.dispatch(t, "globex", fmt.Sprint("a", i), `null`)
	}
	f.add(t, "organization_id", "acme", "kind", "job", "id", "x", "group", "jobs")
	for _, id := range []string{"a1", "x"} {
		found, err := q.Find(t.Context(), "job", testkit.Org(t, "acme"), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Drop(t.Context(), found); err != nil {
			t.Errorf("Drop of %s: %v", id, err)
		}
		if err := q.Drop(t.Context(), found); err != nil {
			t.Errorf("Drop of %s once more: %v", id, err)
		}
	}
	for _, s := range h.expect(t, 2) {
		if s.channel != "orgcast:{acme}:group:jobs" || s.fields["type"] != "task_failed" || s.fields["code"] != "dropped" {
			t.Errorf("got %v on %s, want the end of a dropped task", s.fields, s.channel)
		}
	}
	if diff := cmp.Diff([]string{"a0 waiting", "a2 waiting"}, states(t, q, "acme")); diff != "" {
		t.Errorf("acme: want (-), got (+):\n%s", diff)
	}
	var mu sync.Mutex
	var ran []string
	begun, told := make(chan struct{}), make(chan error, 1)
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		mu.Lock()
		ran = append(ran, job.Organization().String()+" "+job.ID)
		mu.Unlock()
		if job.Organization().String() == "acme" && job.ID == "a2" {
			close(begun)
			for { // until it gets an error
				if err := job.Progress(ctx, object{"type": "step"}); err != nil {
					told <- err
					return nil, err
				}
			}
		}
		return nil, nil
	}), f.options())
	<-begun
	found, err := q.Find(t.Context(), "job", testkit.Org(t, "acme"), "a2")
	if err != nil || found.State != task.Held {
		t.Fatalf("Find: got %+v, %v", found, err)
	}
	if err := q.Drop(t.Context(), found); err != nil {
		t.Errorf("Drop: %v", err)
	}
	if err := <-told; !errors.Is(err, task.ErrEnded) {
		t.Errorf("running task: got %v, want ErrEnded", err)
	}
	f.expectDone(t)
	if ends := ended(f.history(t, testkit.Group(t, "acme", "jobs"))); ends["a0"] != 1 || ends["a1"] != 1 || ends["a2"] != 1 || ends["x"] != 1 {
		t.Errorf("ends in acme: got %v, want one each", ends)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(ran, ","); strings.Contains(got, "acme a1") || strings.Contains(got, "acme x") || len(ran) < 5 {
		t.Errorf("ran: %s, want all that were not dropped", got)
	}
}

// ended counts the terminal events of tasks.
func ended(events []said) map[string]int {
	ends := make(map[string]int)
	for _, s := range events {
		if id, ok := s.fields["task_id"].(string); ok && (s.fields["type"] == "task_failed" || s.fields["type"] == "task_complete") {
			ends[id]++
		}
	}
	return ends
}

// TestRetryIsANewTask: a dead letter runs again with a new id, once even if it is retried several
// times, and is removed from the dead letters.
func TestRetryIsANewTask(t *testing.T) {
	f := newFixture(t)
	q := f.queues(t)
	var mu sync.Mutex
	var payloads []string
	f.work(t, only(func(_ context.Context, job *task.Job) (any, error) {
		if job.ID == "bad" {
			return nil, task.Fail("no_luck")
		}
		mu.Lock()
		defer mu.Unlock()
		payloads = append(payloads, job.UserID+" "+string(job.Payload))
		return nil, nil
	}), f.options())
	f.dispatch(t, "acme", "bad", `{"n":1}`)
	f.dispatch(t, "globex", "bad", `{"n":2}`)
	f.expectDone(t)
	found, err := q.Find(t.Context(), "job", testkit.Org(t, "acme"), "bad")
	if err != nil || found.State != task.Dead || found.Reason != "no_luck" || found.Deliveries != 1 {
		t.Fatalf("Find: got %+v, %v", found, err)
	}
	first, err1 := q.Retry(t.Context(), found)
	second, err2 := q.Retry(t.Context(), found)
	if err := errors.Join(err1, err2); err != nil || first != second || first == "bad" {
		t.Errorf("Retry: got %q and %q, %v, want one new id", first, second, err)
	}
	f.expectDone(t)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{`7 {"n":1}`}, payloads); diff != "" {
		t.Errorf("runs: want (-), got (+):\n%s", diff)
	}
	if got := ended(f.history(t, testkit.Group(t, "acme", "jobs"))); got["bad"] != 1 || got[first] != 1 {
		t.Errorf("ends: got %v, want one of each id", got)
	}
	if dead := f.dead(t); len(dead) != 1 || dead[0]["organization_id"] != "globex" {
		t.Errorf("dead letters: got %v, want that of globex", dead)
	}
	waiting := task.Found{Task: task.Task{Kind: "job", ID: "1", Group: testkit.Group(t, "acme", "jobs"), Payload: json.RawMessage("1")}, State: task.Waiting}
	if _, err := q.Retry(t.Context(), waiting); !errors.Is(err, task.ErrNotDead) {
		t.Errorf("Retry of a task that waits: got %v, want ErrNotDead", err)
	}
}

// TestCountsAreMetrics: a worker's metrics show how many tasks wait, run and are dead.
func TestCountsAreMetrics(t *testing.T) {
	f := newFixture(t)
	release := make(chan struct{})
	o := f.options()
	o.Concurrency = 2
	f.work(t, only(func(ctx context.Context, _ *task.Job) (any, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, nil
	}), o)
	for i := range 3 {
		f.dispatch(t, "acme", fmt.Sprint(i), `null`)
	}
	testkit.Eventually(t, "one runs and two wait", func() bool {
		return f.gauge(t, "orgcast_tasks", "job", "waiting") == 2 && f.gauge(t, "orgcast_tasks", "job", "held") == 1
	})
	if got := f.gauge(t, "orgcast_tasks_waiting_bytes", "job"); got <= 0 {
		t.Errorf("waiting bytes: got %v", got)
	}
	close(release)
	f.expectDone(t)
	testkit.Eventually(t, "none waits", func() bool { return f.gauge(t, "orgcast_tasks", "job", "waiting") == 0 })
}

// gauge returns a gauge with all of the given label values.
func (f *fixture) gauge(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if family.GetName() == name && cmp.Equal(labels, values) {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}
