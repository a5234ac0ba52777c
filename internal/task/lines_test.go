package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

// limits are the limits of organizations, which a test may change.
type limits struct {
	mu  sync.Mutex
	of  map[string]task.Limit
	all task.Limit
}

func (l *limits) limit(_ context.Context, org orgctx.ID) task.Limit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit, ok := l.of[org.String()]; ok {
		return limit
	}
	return l.all
}

func (l *limits) set(org string, limit task.Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[string]task.Limit)
	}
	l.of[org] = limit
}

// limited returns a dispatcher that keeps the limits.
func (f *fixture) limited(t *testing.T, l *limits) *task.Dispatcher {
	t.Helper()
	d, err := task.NewDispatcher(f.client, f.keys, task.DispatcherOptions{Limit: l.limit})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func dispatchWith(t *testing.T, d *task.Dispatcher, org, id, payload string) error {
	t.Helper()
	_, err := d.Dispatch(as(t, org), task.Task{Kind: "job", ID: id, Group: testkit.Group(t, org, "jobs"), Payload: json.RawMessage(payload)})
	return err
}

// TestFullLineHoldsUpItsOwnOrganization: an organization's limit of waiting tasks applies, and does
// not affect other organizations. A changed limit applies at once, and a refused task is not
// remembered.
func TestFullLineHoldsUpItsOwnOrganization(t *testing.T) {
	f := newFixture(t)
	l := &limits{all: task.Limit{Tasks: 3}}
	d := f.limited(t, l)
	for i := range 5 {
		if err := dispatchWith(t, d, "acme", fmt.Sprint(i), `null`); errors.Is(err, task.ErrBacklog) != (i >= 3) {
			t.Errorf("task %d of acme: got %v", i, err)
		}
	}
	if err := dispatchWith(t, d, "globex", "0", `null`); err != nil {
		t.Errorf("globex: got %v, want no error", err)
	}
	l.set("acme", task.Limit{Tasks: 4})
	for i := 3; i < 5; i++ {
		if err := dispatchWith(t, d, "acme", fmt.Sprint(i), `null`); errors.Is(err, task.ErrBacklog) != (i >= 4) {
			t.Errorf("task %d of acme under a larger limit: got %v", i, err)
		}
	}
	l.set("acme", task.Limit{Tasks: 2})
	if err := dispatchWith(t, d, "acme", "4", `null`); !errors.Is(err, task.ErrBacklog) {
		t.Errorf("under a smaller limit: got %v, want ErrBacklog", err)
	}
	if got := len(f.line(t, "acme", "job")); got != 4 {
		t.Errorf("got %d tasks in the line, want the 4 that were there", got)
	}
	l.set("acme", task.Limit{})
	if err := dispatchWith(t, d, "acme", "4", `null`); err != nil {
		t.Errorf("without a limit: got %v", err)
	}
}

// TestLineIsBoundedInBytes: a few large tasks fill a line like many small ones, and tasks that
// leave it make room.
func TestLineIsBoundedInBytes(t *testing.T) {
	f := newFixture(t)
	d := f.limited(t, &limits{all: task.Limit{Bytes: 10_000}})
	large := `"` + strings.Repeat("x", 4000) + `"`
	for i := range 3 {
		if err := dispatchWith(t, d, "acme", fmt.Sprint(i), large); errors.Is(err, task.ErrBacklog) != (i >= 2) {
			t.Errorf("task %d: got %v", i, err)
		}
	}
	if err := dispatchWith(t, d, "acme", "small", `1`); err != nil {
		t.Errorf("a task that fits: got %v", err)
	}
	if f.read(t, "job", "w") == nil {
		t.Fatal("got no task")
	}
	if err := dispatchWith(t, d, "acme", "2", large); err != nil {
		t.Errorf("after one has left: got %v", err)
	}
	for f.read(t, "job", "w") != nil { // the last one finds nothing
		continue
	}
	if names := f.names(t, "orgcast:l*:*"); len(names) != 0 {
		t.Errorf("left behind by empty lines: %v", names)
	}
}

// TestOrganizationsTakeTurns: an organization with many waiting tasks does not go before those with
// few, and a new one does not have to wait longer.
func TestOrganizationsTakeTurns(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		f.dispatch(t, "acme", fmt.Sprint("a", i), `null`)
	}
	for i := range 3 {
		f.dispatch(t, "globex", fmt.Sprint("g", i), `null`)
	}
	var got []string
	for range 8 {
		got = append(got, f.read(t, "job", "w")["id"].(string))
	}
	f.dispatch(t, "closed", "c0", `null`)
	f.dispatch(t, "closed", "c1", `null`)
	for range 5 {
		got = append(got, f.read(t, "job", "w")["id"].(string))
	}
	want := []string{"a0", "g0", "a1", "g1", "a2", "g2", "a3", "a4", "c0", "a5", "c1", "a6", "a7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order: want (-), got (+):\n%s", diff)
	}
}

// TestPassedOverOrganizationSavesNothingUp: an organization that was at its share of a worker for
// long does not go before all others afterwards.
func TestPassedOverOrganizationSavesNothingUp(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		f.dispatch(t, "acme", fmt.Sprint("a", i), `null`)
		f.dispatch(t, "globex", fmt.Sprint("g", i), `null`)
	}
	for range 10 {
		if got := f.read(t, "job", "w", "acme")["organization_id"]; got != "globex" {
			t.Fatalf("got a task of %v, want one of globex", got)
		}
	}
	if got := f.read(t, "job", "w", "acme", "globex"); got != nil {
		t.Errorf("got %v, want nothing while both are passed over", got)
	}
	f.dispatch(t, "closed", "c", `null`)
	var got []string
	for range 6 {
		got = append(got, f.read(t, "job", "w")["organization_id"].(string))
	}
	count := make(map[string]int)
	for _, org := range got {
		count[org]++
	}
	if diff := cmp.Diff(map[string]int{"acme": 3, "globex": 2, "closed": 1}, count); diff != "" {
		t.Errorf("turns: want (-), got (+):\n%s of %v", diff, got)
	}
}

// TestWeights: if two organizations have tasks waiting, one with three times the weight gets three
// times as many done.
func TestWeights(t *testing.T) {
	f := newFixture(t)
	l := &limits{}
	d := f.limited(t, l)
	l.set("acme", task.Limit{Weight: 3})
	l.set("globex", task.Limit{Weight: 1})
	l.set("closed", task.Limit{Weight: 1000}) // counts as 100
	for i := range 400 {
		for _, org := range []string{"acme", "globex", "closed"} {
			if err := dispatchWith(t, d, org, fmt.Sprint(i), `null`); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(reads int, want map[string]int, passed ...any) {
		t.Helper()
		got := make(map[string]int)
		for range reads {
			got[f.read(t, "job", "w", passed...)["organization_id"].(string)]++
		}
		for org, n := range want {
			if got[org] < n*9/10-1 || got[org] > n*11/10+1 {
				t.Errorf("%s: got %d of %d tasks, want %d within a tenth", org, got[org], reads, n)
			}
		}
	}
	expect(400, map[string]int{"acme": 300, "globex": 100}, "closed")
	expect(104, map[string]int{"closed": 100, "acme": 3, "globex": 1})
}

// TestManyOrganizationsThatWait: each of very many organizations gets its turn, even behind lines
// that are empty by now.
func TestManyOrganizationsThatWait(t *testing.T) {
	f := newFixture(t)
	const many = 3000
	pipe := f.client.Pipeline()
	for i := range many { // as if their tasks had been dropped
		pipe.ZAdd(t.Context(), f.keys.TaskRing("job"), redis.Z{Score: float64(i), Member: fmt.Sprintf("o%04d", i)})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.client.HSet(t.Context(), f.keys.TaskLines("job"), ":turn", many)
	f.dispatch(t, "acme", "last", `null`)
	again := 0
	for got := f.read(t, "job", "w"); got["id"] != "last"; got = f.read(t, "job", "w") {
		if got == nil || got["entry"] != "" || again > many {
			t.Fatalf("got %v after %d empty answers, want the task", got, again)
		}
		again++
	}
	if again == 0 {
		t.Errorf("one call looked at %d organizations", many)
	}
}

// TestBusyOrganizationLeavesRoom: one organization has many tasks waiting, and as many running as
// it may. A task of another organization begins before all waiting ones.
func TestBusyOrganizationLeavesRoom(t *testing.T) {
	f := newFixture(t)
	f.directoryHas(t, "initech")
	release := make(chan struct{})
	var mu sync.Mutex
	var order []string
	running := make(map[string]int)
	started := func() []string { mu.Lock(); defer mu.Unlock(); return append([]string(nil), order...) }
	o := f.options()
	o.Concurrency = 4
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		org := job.Organization().String()
		mu.Lock()
		order = append(order, org+" "+job.ID)
		running[org]++
		if running[org] > 2 {
			t.Errorf("%s has %d of 4 slots, want at most 2", org, running[org])
		}
		mu.Unlock()
		defer func() { mu.Lock(); running[org]--; mu.Unlock() }()
		if org == "acme" {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil, nil
	}), o)
	const many = 50
	for i := range many {
		f.dispatch(t, "acme", fmt.Sprint(i), `null`)
	}
	testkit.Eventually(t, "acme has its share", func() bool { return len(started()) == 2 })
	for i := range 10 {
		f.dispatch(t, "globex", fmt.Sprint(i), `null`)
		f.dispatch(t, "initech", fmt.Sprint(i), `null`)
	}
	testkit.Eventually(t, "those of the others begin", func() bool { return len(started()) == 22 })
	for _, name := range started()[2:] {
		if strings.HasPrefix(name, "acme") {
			t.Errorf("%s began beyond the share", name)
		}
	}
	if got := f.open(t, "job"); got < many {
		t.Errorf("got %d open tasks, want those of acme to wait", got)
	}
	close(release)
	f.expectDone(t)
	if got := len(started()); got != many+20 {
		t.Errorf("got %d runs, want each task to run once", got)
	}
}

// TestEntriesOfOthersPassTheShareToo: entries that other programs add to the stream, and entries
// that are tried again, also count toward the share. Putting them back is not an attempt.
func TestEntriesOfOthersPassTheShareToo(t *testing.T) {
	f := newFixture(t)
	var mu sync.Mutex
	now, most, attempts := 0, 0, make(map[string][]int)
	o := f.options()
	o.Concurrency, o.Attempts = 4, 3
	f.work(t, only(func(_ context.Context, job *task.Job) (any, error) {
		mu.Lock()
		now++
		most = max(most, now)
		attempts[job.ID] = append(attempts[job.ID], job.Attempt)
		mu.Unlock()
		time.Sleep(time.Millisecond) // work
		mu.Lock()
		defer mu.Unlock()
		now--
		if job.Attempt < 3 {
			return nil, errors.New("once more")
		}
		return nil, nil
	}), o)
	const many = 30
	for i := range many {
		f.add(t, "organization_id", "acme", "kind", "job", "id", fmt.Sprint("x", i), "group", "jobs")
	}
	f.expectDone(t)
	mu.Lock()
	defer mu.Unlock()
	if most > 2 {
		t.Errorf("got %d tasks at a time, want at most 2", most)
	}
	for i := range many {
		if diff := cmp.Diff([]int{1, 2, 3}, attempts[fmt.Sprint("x", i)]); diff != "" {
			t.Errorf("attempts of x%d: want (-), got (+):\n%s", i, diff)
		}
	}
	if got := len(f.dead(t)); got != 0 {
		t.Errorf("got %d dead letters, want none", got)
	}
}

// TestShareOfOneSlot: however small the share, an organization may use one slot. With a share of 1,
// it may use all.
func TestShareOfOneSlot(t *testing.T) {
	for name, test := range map[string]struct {
		concurrency, want int
		share             float64
	}{
		"one slot": {1, 1, 0.5}, "two": {2, 1, 0.5}, "three": {3, 1, 0.5}, "eight": {8, 4, 0.5}, "all": {8, 8, 1}, "least": {8, 1, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			o := f.options()
			o.Concurrency, o.Share = test.concurrency, test.share
			var mu sync.Mutex
			now, most := 0, 0
			full := make(chan struct{})
			f.work(t, only(func(ctx context.Context, _ *task.Job) (any, error) {
				mu.Lock()
				now++
				most = max(most, now)
				if now == test.want {
					select {
					case <-full:
					default:
						close(full)
					}
				}
				mu.Unlock()
				defer func() { mu.Lock(); now--; mu.Unlock() }()
				select {
				case <-full:
				case <-ctx.Done():
				}
				return nil, nil
			}), o)
			for i := range 20 {
				f.dispatch(t, "acme", fmt.Sprint(i), `null`)
			}
			f.expectDone(t)
			if most != test.want {
				t.Errorf("got %d at a time, want %d", most, test.want)
			}
		})
	}
}

// TestLineThatSomebodyBroke: malformed entries in a line are buried, and later ones run.
func TestLineThatSomebodyBroke(t *testing.T) {
	f := newFixture(t)
	for _, text := range []string{"", "{", `"x"`, `[]`, `["id"]`, `["id",1]`, `["id",null]`, `[["id","1"],"x"]`, `{"a":"b"}`} {
		f.dispatch(t, "acme", "first", `null`)
		if err := f.client.LPush(t.Context(), f.keys.TaskLine(testkit.Org(t, "acme"), "job"), text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	f.work(t, only(func(context.Context, *task.Job) (any, error) { return nil, nil }), f.options())
	testkit.Eventually(t, "the line is empty", func() bool {
		return f.client.Exists(t.Context(), f.keys.TaskLine(testkit.Org(t, "acme"), "job"), f.keys.TaskLines("job")).Val() == 0 && f.open(t, "job") == 0
	})
	if got := len(f.dead(t)); got != 9 {
		t.Errorf("got %d dead letters, want 9", got)
	}
	if got := len(f.history(t, testkit.Group(t, "acme", "jobs"))); got != 1 {
		t.Errorf("got %d events, want the end of the task", got)
	}
}

// TestOldEntriesInTheStream: tasks that an earlier version dispatched are done, and so are those of
// this version.
func TestOldEntriesInTheStream(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.add(t, "organization_id", "acme", "user_id", "7", "kind", "job", "id", fmt.Sprint("old", i), "idempotency_key", fmt.Sprint("old", i), "group", "jobs", "payload", "null")
		f.dispatch(t, "acme", fmt.Sprint("new", i), `null`)
	}
	var mu sync.Mutex
	runs := make(map[string]int)
	f.work(t, only(func(_ context.Context, job *task.Job) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		runs[job.ID]++
		return nil, nil
	}), f.options())
	f.expectDone(t)
	mu.Lock()
	defer mu.Unlock()
	for i := range 5 {
		if runs[fmt.Sprint("old", i)] != 1 || runs[fmt.Sprint("new", i)] != 1 {
			t.Errorf("got %v, want each task to run once", runs)
		}
	}
}

// directoryHas makes an organization active.
func (f *fixture) directoryHas(t *testing.T, org string) {
	t.Helper()
	if err := f.directory.PutOrganization(t.Context(), testkit.Org(t, org), directory.Active); err != nil {
		t.Fatal(err)
	}
}

// TestWaitingWorkerIsToldOfEachTask: a waiting worker gets each task at once, whichever of its
// slots looked for one before. No task is left until the worker polls.
func TestWaitingWorkerIsToldOfEachTask(t *testing.T) {
	f := newFixture(t)
	o := f.options()
	o.Poll = 4 * testkit.Patience // the worker does not poll in time
	started := make(chan string)
	w, err := task.NewWorker(f.client, f.keys, f.directory, only(func(_ context.Context, job *task.Job) (any, error) {
		started <- job.ID
		return nil, nil
	}), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	next := 0
	dispatch := func() {
		f.dispatch(t, []string{"acme", "globex"}[next%2], fmt.Sprint(next), `null`)
		next++
	}
	for range 300 {
		dispatch()
		select {
		case <-started:
		case <-time.After(testkit.Patience):
			t.Fatalf("task %d waits although a worker waits for one\n%s", next, f.log)
		}
	}
	cancel()
	for { // it stops when Redis answers its command
		dispatch()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-started:
		}
	}
}
