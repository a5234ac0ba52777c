package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

func newAsks(t *testing.T) (*fixture, *task.Asks) {
	t.Helper()
	f := newFixture(t)
	asks, err := task.NewAsks(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	return f, asks
}

func mustOpen(t *testing.T, asks *task.Asks, org, execution string, index int, life time.Duration) {
	t.Helper()
	if opened, err := asks.Open(as(t, org), execution, index, json.RawMessage(`{"prompt":"ok?"}`), life); err != nil || !opened {
		t.Fatalf("Open: got %v, %v, want a new one", opened, err)
	}
}

func TestAnswer(t *testing.T) {
	_, asks := newAsks(t)
	mustOpen(t, asks, "acme", "e1", 0, 0)
	mustOpen(t, asks, "acme", "e1", 1, 0)
	if err := asks.Answer(as(t, "acme"), "e1", 1, "yes"); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		org, execution string
		index          int
		input          string
		want           error
	}{
		// All of these look alike.
		"unknown execution":    {"acme", "e2", 0, "x", task.ErrAskNotFound},
		"unknown index":        {"acme", "e1", 2, "x", task.ErrAskNotFound},
		"negative index":       {"acme", "e1", -1, "x", task.ErrAskNotFound},
		"foreign":              {"globex", "e1", 0, "x", task.ErrAskNotFound},
		"foreign and answered": {"globex", "e1", 1, "x", task.ErrAskNotFound},
		"key in execution":     {"acme", "e1:0", 0, "x", task.ErrAskNotFound},
		"another's key":        {"acme", "{globex}", 0, "x", task.ErrAskNotFound},

		"answered":  {"acme", "e1", 1, "x", task.ErrAskAnswered},
		"not UTF-8": {"acme", "e1", 0, "\xff", task.ErrAskInput},
		"too long":  {"acme", "e1", 0, strings.Repeat("a", task.MaxInput+1), task.ErrAskInput},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := asks.Answer(as(t, test.org), test.execution, test.index, test.input); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if err := asks.Answer(t.Context(), "e1", 0, "x"); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("without organization: got %v, want ErrNoOrganization", err)
	}
	if prompt, err := asks.Prompt(as(t, "acme"), "e1", 0); err != nil || string(prompt) != `{"prompt":"ok?"}` {
		t.Errorf("Prompt: got %s, %v", prompt, err)
	}
	if _, err := asks.Prompt(as(t, "acme"), "e1", 1); !errors.Is(err, task.ErrAskAnswered) {
		t.Errorf("Prompt of an answered one: got %v, want ErrAskAnswered", err)
	}
	if _, err := asks.Prompt(as(t, "globex"), "e1", 0); !errors.Is(err, task.ErrAskNotFound) {
		t.Errorf("foreign Prompt: got %v, want ErrAskNotFound", err)
	}
}

// Attack: a person's input into another organization's execution. Two organizations have the same
// execution id.
func TestAnswersStayInTheirOrganization(t *testing.T) {
	_, asks := newAsks(t)
	for _, org := range []string{"acme", "globex"} {
		mustOpen(t, asks, org, "42", 0, 0)
	}
	if err := asks.Answer(as(t, "globex"), "42", 0, "globex says"); err != nil {
		t.Fatal(err)
	}
	if got, err := asks.Wait(as(t, "globex"), "42", 0); err != nil || got != "globex says" {
		t.Errorf("globex: got %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(as(t, "acme"), 10*time.Millisecond)
	defer cancel()
	if got, err := asks.Wait(ctx, "42", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acme: got %q, %v, want no answer", got, err)
	}
	if err := asks.Answer(as(t, "acme"), "42", 0, "acme says"); err != nil {
		t.Errorf("acme's own answer: %v", err)
	}
}

// TestWaitEndsWithItsContext: the error is the cause of the end, also while Redis is being asked.
func TestWaitEndsWithItsContext(t *testing.T) {
	f, asks := newAsks(t)
	mustOpen(t, asks, "acme", "e1", 0, 0)
	f.server.Pause()
	defer f.server.Resume()
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(as(t, "acme"), 50*time.Millisecond, late)
	defer cancel()
	if got, err := asks.Wait(ctx, "e1", 0); !errors.Is(err, late) {
		t.Errorf("got %q, %v, want the cause", got, err)
	}
}

func TestOneAnswerWins(t *testing.T) {
	_, asks := newAsks(t)
	mustOpen(t, asks, "acme", "e1", 0, 0)
	ctx, foreign := as(t, "acme"), as(t, "globex")
	answer := make(chan string, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := asks.Wait(ctx, "e1", 0)
		if err != nil {
			t.Errorf("Wait: %v", err)
		}
		answer <- got
	})
	var won atomic.Int32
	var winner atomic.Value
	for i := range 100 {
		wg.Go(func() {
			input := fmt.Sprint("answer ", i)
			switch err := asks.Answer(ctx, "e1", 0, input); {
			case err == nil:
				won.Add(1)
				winner.Store(input)
			case !errors.Is(err, task.ErrAskAnswered):
				t.Errorf("got %v, want ErrAskAnswered", err)
			}
			if err := asks.Answer(foreign, "e1", 0, input); !errors.Is(err, task.ErrAskNotFound) {
				t.Errorf("foreign: got %v, want ErrAskNotFound", err)
			}
		})
	}
	wg.Wait()
	if got := <-answer; won.Load() != 1 || got != winner.Load() {
		t.Errorf("%d answers won, the task got %q, want one and %q", won.Load(), got, winner.Load())
	}
}

func TestLateAnswer(t *testing.T) {
	f, asks := newAsks(t)
	mustOpen(t, asks, "acme", "short", 0, time.Millisecond)
	testkit.Eventually(t, "question is over", func() bool {
		return f.client.Exists(t.Context(), f.keys.Ask(testkit.Org(t, "acme"), "short", 0)).Val() == 0
	})
	if err := asks.Answer(as(t, "acme"), "short", 0, "x"); !errors.Is(err, task.ErrAskNotFound) {
		t.Errorf("Answer: got %v, want ErrAskNotFound", err)
	}
	if _, err := asks.Wait(as(t, "acme"), "short", 0); !errors.Is(err, task.ErrAskNotFound) {
		t.Errorf("Wait: got %v, want ErrAskNotFound", err)
	}
	if f.client.Exists(t.Context(), f.keys.Ask(testkit.Org(t, "acme"), "short", 0)).Val() != 0 {
		t.Error("a late answer left a key behind")
	}
}

func TestAskIsFoundAgain(t *testing.T) {
	_, asks := newAsks(t)
	ctx := as(t, "acme")
	mustOpen(t, asks, "acme", "e1", 0, 0)
	if err := asks.Answer(ctx, "e1", 0, "yes"); err != nil {
		t.Fatal(err)
	}
	if opened, err := asks.Open(ctx, "e1", 0, json.RawMessage(`"again"`), 0); err != nil || opened {
		t.Errorf("second Open: got %v, %v, want the first one", opened, err)
	}
	if got, err := asks.Wait(ctx, "e1", 0); err != nil || got != "yes" {
		t.Errorf("Wait: got %q, %v", got, err)
	}
	if err := asks.Close(as(t, "globex"), "e1", 0); err != nil {
		t.Errorf("foreign Close: %v", err)
	}
	if got, err := asks.Wait(ctx, "e1", 0); err != nil || got != "yes" {
		t.Errorf("Wait after a foreign Close: got %q, %v", got, err)
	}
	if err := asks.Close(ctx, "e1", 0); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := asks.Answer(ctx, "e1", 0, "no"); !errors.Is(err, task.ErrAskNotFound) {
		t.Errorf("Answer after Close: got %v, want ErrAskNotFound", err)
	}
	for _, prompt := range []string{"", "{", "\"\xff\""} {
		if _, err := asks.Open(ctx, "e1", 0, json.RawMessage(prompt), 0); !errors.Is(err, task.ErrMalformed) {
			t.Errorf("Open with %q: got %v, want ErrMalformed", prompt, err)
		}
	}
	if _, err := asks.Open(t.Context(), "e1", 0, json.RawMessage(`1`), 0); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("Open without organization: got %v, want ErrNoOrganization", err)
	}
}

// TestJobAsks: a job asks once. It announces a question that an earlier attempt opened but could
// not announce, and finds an answer given meanwhile. Another organization with the same ids cannot
// answer.
func TestJobAsks(t *testing.T) {
	f := newFixture(t)
	asks, err := task.NewAsks(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"untold", "answered"} {
		mustOpen(t, asks, "acme", id, 0, 0)
	}
	if err := asks.Answer(as(t, "acme"), "answered", 0, "before"); err != nil {
		t.Fatal(err)
	}
	h := f.listen(t)
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		if _, err := job.Ask(orgctx.With(ctx, testkit.Org(t, "initech")), 0, "?", object{"type": "asked"}); !errors.Is(err, task.ErrForeign) {
			t.Errorf("in the context of another organization: got %v, want ErrForeign", err)
		}
		answer, err := job.Ask(ctx, 0, object{"question": "Go on?"}, object{"type": "asked", "task_id": job.ID})
		return object{"type": "done", "task_id": job.ID, "answer": answer}, err
	}), f.options())
	for _, id := range []string{"untold", "answered", "new"} {
		f.dispatch(t, "acme", id, "null")
	}
	f.dispatch(t, "globex", "new", "null")
	testkit.Eventually(t, "the questions", func() bool { return len(h.types("acme")) == 3 && len(h.types("globex")) == 1 })
	for org, ids := range map[string][]string{"acme": {"untold", "new"}, "globex": {"new"}} {
		for _, id := range ids {
			if err := asks.Answer(as(t, org), id, 0, "of "+org); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.expectDone(t)
	h.expect(t, 7)
	answers := make(map[string]any)
	for _, s := range h.events() {
		if s.fields["type"] == "done" {
			answers[s.channel+" "+s.fields["task_id"].(string)] = s.fields["answer"]
		}
	}
	want := map[string]any{
		"orgcast:{acme}:group:jobs untold": "of acme", "orgcast:{acme}:group:jobs answered": "before",
		"orgcast:{acme}:group:jobs new": "of acme", "orgcast:{globex}:group:jobs new": "of globex",
	}
	if diff := cmp.Diff(want, answers); diff != "" {
		t.Errorf("answers: want (-), got (+):\n%s", diff)
	}
}
