package task_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

func newRequests(t *testing.T, f *fixture) *task.Requests {
	t.Helper()
	requests, err := task.NewRequests(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	return requests
}

// asUser returns a context of a user of the organization.
func asUser(t *testing.T, org string, user orgctx.User) context.Context {
	t.Helper()
	return orgctx.WithUser(as(t, org), user)
}

// TestRequestIDsArePerUser: with a request id, its user gets the same work again, and other users
// do not.
func TestRequestIDsArePerUser(t *testing.T) {
	f := newFixture(t)
	requests := newRequests(t, f)
	seen := make(map[string]string)
	for name, ctx := range map[string]context.Context{
		"ada": asUser(t, "acme", "ada"), "alan, of the same organization": asUser(t, "acme", "alan"),
		"ada, of another organization": asUser(t, "globex", "ada"),
	} {
		first, err := requests.Begin(ctx, "r1", []byte("content of "+name))
		if err != nil || first.Work == "" || first.Done {
			t.Fatalf("%s: got %+v, %v, want new work", name, first, err)
		}
		for other, work := range seen {
			if work == first.Work {
				t.Errorf("%s: got the work of %s", name, other)
			}
		}
		seen[name] = first.Work
		if !first.New {
			t.Errorf("%s: got %+v, want a new request", name, first)
		}
		first.New = false
		if again, err := requests.Begin(ctx, "r1", []byte("content of "+name)); err != nil || again != first {
			t.Errorf("%s, again: got %+v, %v, want %+v", name, again, err, first)
		}
		if _, err := requests.Begin(ctx, "r1", []byte("other content")); !errors.Is(err, task.ErrConflict) {
			t.Errorf("%s, other content: got %v, want ErrConflict", name, err)
		}
		if other, err := requests.Begin(ctx, "r2", []byte("other content")); err != nil || other.Work == first.Work {
			t.Errorf("%s, other id: got %+v, %v, want other work", name, other, err)
		}
	}
}

// TestRequestIsNoted: a dispatched request stays dispatched. A request that failed before that
// becomes new work, with the same content.
func TestRequestIsNoted(t *testing.T) {
	f := newFixture(t)
	requests := newRequests(t, f)
	ctx := asUser(t, "acme", "ada")
	begin := func() task.Request {
		t.Helper()
		q, err := requests.Begin(ctx, "r1", []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	first := begin()
	if err := requests.Again(ctx, first); err != nil {
		t.Fatal(err)
	}
	second := begin()
	if second.Work == first.Work || second.Done {
		t.Errorf("after a failure: got %+v, want other work than %s", second, first.Work)
	}
	if _, err := requests.Begin(ctx, "r1", []byte("other content")); !errors.Is(err, task.ErrConflict) {
		t.Errorf("after a failure, other content: got %v, want ErrConflict", err)
	}
	if err := requests.Done(ctx, second); err != nil {
		t.Fatal(err)
	}
	if third := begin(); third.Work != second.Work || !third.Done {
		t.Errorf("when it is done: got %+v, want %s and done", third, second.Work)
	}
}

// TestRequestsAreForgotten: a request id counts for a day and a minute, whatever is recorded
// meanwhile. A forgotten one cannot be changed.
func TestRequestsAreForgotten(t *testing.T) {
	f := newFixture(t)
	requests := newRequests(t, f)
	ctx := asUser(t, "acme", "ada")
	q, err := requests.Begin(ctx, "r1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := requests.Done(ctx, q); err != nil {
		t.Fatal(err)
	}
	key := f.keys.Request(testkit.Org(t, "acme"), "ada", "r1")
	if life, err := f.client.PTTL(ctx, key).Result(); err != nil || life <= 24*time.Hour || life > task.RequestLife {
		t.Errorf("life: got %v, %v, want about %v", life, err, task.RequestLife)
	}
	if err := f.client.Del(ctx, key).Err(); err != nil {
		t.Fatal(err)
	}
	if err := requests.Done(ctx, q); err != nil {
		t.Errorf("Done: got %v, want nil", err)
	}
	if n := f.client.Exists(ctx, key).Val(); n != 0 {
		t.Error("a forgotten request came back")
	}
}

// TestOneRequestOfMany: many requests at once with one id are all the same work.
func TestOneRequestOfMany(t *testing.T) {
	f := newFixture(t)
	requests := newRequests(t, f)
	ctx := asUser(t, "acme", "ada")
	var mu sync.Mutex
	works := make(map[string]bool)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			q, err := requests.Begin(ctx, "r1", []byte("content"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			works[q.Work] = true
		})
	}
	wg.Wait()
	if len(works) != 1 {
		t.Errorf("got the works %v, want one", works)
	}
}

func TestRequestsRefuse(t *testing.T) {
	f := newFixture(t)
	requests := newRequests(t, f)
	for name, test := range map[string]struct {
		ctx  context.Context //nolint:containedctx // what is tested
		id   string
		want error
	}{
		"no organization": {orgctx.WithUser(t.Context(), "ada"), "r1", orgctx.ErrNoOrganization},
		"no user":         {as(t, "acme"), "r1", task.ErrNoUser},
		"no id":           {asUser(t, "acme", "ada"), "", task.ErrMalformed},
		"no such form":    {asUser(t, "acme", "ada"), "a:b", task.ErrMalformed},
	} {
		if _, err := requests.Begin(test.ctx, test.id, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

// TestSameAnswerAgain: an answer that its sender repeats is not a second one, and other answers are
// still refused.
func TestSameAnswerAgain(t *testing.T) {
	f := newFixture(t)
	asks, err := task.NewAsks(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	ctx := as(t, "acme")
	if _, err := asks.Open(ctx, "e1", 0, []byte(`"Go on?"`), 0); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		key, input string
		want       error
	}{
		{"k1", "yes", nil}, {"k1", "yes", nil}, {"k2", "no", task.ErrAskAnswered}, {"", "no", task.ErrAskAnswered},
	} {
		if err := asks.AnswerOnce(ctx, "e1", 0, step.input, step.key); !errors.Is(err, step.want) {
			t.Errorf("%s under %q: got %v, want %v", step.input, step.key, err, step.want)
		}
	}
	if input, err := asks.Wait(ctx, "e1", 0); err != nil || input != "yes" {
		t.Errorf("got %q, %v, want yes", input, err)
	}
}

// TestSetNew: if many callers set a new name, one succeeds.
func TestSetNew(t *testing.T) {
	f := newFixture(t)
	ctx := as(t, "acme")
	store, err := task.NewStore(ctx, f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if got, err := store.SetNew(ctx, "outcome", []byte{byte('0' + i)}, time.Hour); err != nil || got != want {
			t.Errorf("%d: got %v, %v, want %v", i, got, err, want)
		}
	}
	if value, err := store.Get(ctx, "outcome"); err != nil || string(value) != "0" {
		t.Errorf("got %q, %v, want 0", value, err)
	}
	if life := f.client.PTTL(ctx, f.keys.Stored(testkit.Org(t, "acme"), "outcome")).Val(); life <= 0 {
		t.Errorf("life: got %v, want about an hour", life)
	}
	if _, err := store.SetNew(as(t, "globex"), "outcome", nil, 0); !errors.Is(err, task.ErrForeign) {
		t.Errorf("of another organization: got %v, want ErrForeign", err)
	}
}
