package gather_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/gather"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// line is a slow place that answers questions with themselves. Each call waits until it is let go.
type line struct {
	let chan struct{}

	mu    sync.Mutex
	calls [][]string
	ended []error // of the contexts, when the calls were over
}

func (l *line) call(ctx context.Context, questions []string) []string {
	l.mu.Lock()
	l.calls = append(l.calls, slices.Clone(questions))
	l.mu.Unlock()
	<-l.let
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, ctx.Err())
	return slices.Clone(questions)
}

func (l *line) expect(t *testing.T, want ...[]string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if diff := cmp.Diff(want, l.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// asker asks in a goroutine.
type asker struct {
	cancel context.CancelFunc
	done   chan struct{}
	answer string
	err    error
}

func ask(t *testing.T, g *gather.Gatherer[string, string], q string) *asker {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &asker{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.answer, a.err = g.Ask(ctx, q)
	}()
	synctest.Wait()
	return a
}

func (a *asker) expect(t *testing.T, answer string, err error) {
	t.Helper()
	<-a.done
	if a.answer != answer || !errors.Is(a.err, err) {
		t.Errorf("got %q, %v, want %q, %v", a.answer, a.err, answer, err)
	}
}

// slow returns a Gatherer whose calls the test lets go.
func slow(most int) (*gather.Gatherer[string, string], *line) {
	l := &line{let: make(chan struct{})}
	return gather.New(gather.Options[string, string]{Call: l.call, Most: most, Patience: time.Second}), l
}

// TestGather: a question alone is asked at once, and those that come meanwhile go together, the same
// ones once, as soon as its answer is there.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := slow(10)
		a := ask(t, g, "a")
		l.expect(t, []string{"a"})
		b, again, c := ask(t, g, "b"), ask(t, g, "b"), ask(t, g, "c")
		a2 := ask(t, g, "a") // the call under way may have been answered before it was asked
		l.expect(t, []string{"a"})
		l.let <- struct{}{}
		a.expect(t, "a", nil)
		l.expect(t, []string{"a"}, []string{"b", "c", "a"})
		l.let <- struct{}{}
		for want, asked := range map[string][]*asker{"a": {a2}, "b": {b, again}, "c": {c}} {
			for _, one := range asked {
				one.expect(t, want, nil)
			}
		}
		d := ask(t, g, "d")
		l.expect(t, []string{"a"}, []string{"b", "c", "a"}, []string{"d"})
		close(l.let)
		d.expect(t, "d", nil)
	})
}

// TestOneWhoLeavesTakesNothingAlong: an asker who leaves gets the cause, and the others their answers.
// If all leave, their questions are not asked.
func TestOneWhoLeavesTakesNothingAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := slow(10)
		a := ask(t, g, "a")
		b, c := ask(t, g, "b"), ask(t, g, "c")
		b.cancel()
		b.expect(t, "", context.Canceled)
		l.let <- struct{}{}
		a.expect(t, "a", nil)
		l.expect(t, []string{"a"}, []string{"b", "c"})
		c.cancel() // it makes the call, and no context ends with it
		d := ask(t, g, "d")
		l.let <- struct{}{}
		c.expect(t, "c", nil)
		l.expect(t, []string{"a"}, []string{"b", "c"}, []string{"d"})
		e, f := ask(t, g, "e"), ask(t, g, "f")
		e.cancel()
		f.cancel()
		e.expect(t, "", context.Canceled)
		f.expect(t, "", context.Canceled)
		l.let <- struct{}{}
		d.expect(t, "d", nil)
		h := ask(t, g, "h")
		l.expect(t, []string{"a"}, []string{"b", "c"}, []string{"d"}, []string{"h"})
		close(l.let)
		h.expect(t, "h", nil)
		if diff := cmp.Diff([]error{nil, nil, nil, nil}, l.ended); diff != "" {
			t.Errorf("contexts of calls (-want +got):\n%s", diff)
		}
	})
}

// TestNoMoreThanMost: what does not fit into one call goes in another one at once.
func TestNoMoreThanMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := slow(2)
		asked := []*asker{ask(t, g, "a"), ask(t, g, "b"), ask(t, g, "c"), ask(t, g, "d")}
		l.expect(t, []string{"a"}, []string{"b", "c"})
		close(l.let)
		for i, want := range []string{"a", "b", "c", "d"} {
			asked[i].expect(t, want, nil)
		}
		l.expect(t, []string{"a"}, []string{"b", "c"}, []string{"d"})
	})
}

// TestPatience: a call that hangs holds back no one for longer than Patience.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l := slow(10)
		a, b, c := ask(t, g, "a"), ask(t, g, "b"), ask(t, g, "c")
		time.Sleep(time.Second)
		l.expect(t, []string{"a"}, []string{"b", "c"})
		close(l.let)
		a.expect(t, "a", nil)
		b.expect(t, "b", nil)
		c.expect(t, "c", nil)
	})
}

// TestUnansweredIsAnError: a question that a call has not answered, since it panicked, is not answered
// with a zero, and the next ones are asked.
func TestUnansweredIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{let: make(chan struct{})}
		g := gather.New(gather.Options[string, string]{Most: 10, Patience: time.Second, Call: func(ctx context.Context, questions []string) []string {
			answers := l.call(ctx, questions)
			if slices.Contains(questions, "bad") {
				panic("bad")
			}
			return answers
		}})
		a := ask(t, g, "a")
		panicked := make(chan any)
		go func() {
			defer func() { panicked <- recover() }()
			_, _ = g.Ask(t.Context(), "bad")
		}()
		synctest.Wait()
		c := ask(t, g, "c")
		l.let <- struct{}{}
		a.expect(t, "a", nil)
		close(l.let)
		if v := <-panicked; v != "bad" {
			t.Errorf("the panic of the call became %v", v)
		}
		c.expect(t, "", gather.ErrUnanswered)
		d := ask(t, g, "d")
		d.expect(t, "d", nil)
	})
}

// TestEveryoneGetsTheirOwnAnswer: in whatever order askers come and leave, an answer is that to the question,
// and from a call that began after it was asked.
func TestEveryoneGetsTheirOwnAnswer(t *testing.T) {
	var clock, calls atomic.Int64
	type answer struct {
		to    int
		asked int64 // when the call began
	}
	g := gather.New(gather.Options[int, answer]{Most: 7, Patience: time.Millisecond, Call: func(_ context.Context, questions []int) []answer {
		calls.Add(1)
		began := clock.Add(1)
		seen := make(map[int]struct{})
		var answers []answer
		for _, q := range questions {
			seen[q] = struct{}{}
			answers = append(answers, answer{q, began})
		}
		if len(seen) != len(questions) || len(questions) > 7 {
			t.Errorf("asked together: %v", questions)
		}
		return answers
	}})
	var askers sync.WaitGroup
	for i := range 50 {
		askers.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%5 == 0 {
					go cancel()
				}
				q := (i + n) % 20
				now := clock.Add(1)
				got, err := g.Ask(ctx, q)
				if err == nil && (got.to != q || got.asked < now) {
					t.Errorf("asked %d at %d: got %+v", q, now, got)
				}
				if err != nil && n%5 != 0 {
					t.Errorf("asked %d: %v", q, err)
				}
				cancel()
			}
		})
	}
	askers.Wait()
	t.Logf("%d calls for %d questions", calls.Load(), 50*200)
}

func ExampleGatherer() {
	prices := map[string]int{"tea": 3, "coffee": 4}
	g := gather.New(gather.Options[string, int]{
		Call: func(_ context.Context, names []string) (out []int) {
			for _, name := range names { // one round trip for all
				out = append(out, prices[name])
			}
			return out
		},
		Most: 100, Patience: 50 * time.Millisecond,
	})
	for _, name := range slices.Sorted(maps.Keys(prices)) {
		price, err := g.Ask(context.Background(), name)
		fmt.Println(name, price, err)
	}
	// Output:
	// coffee 4 <nil>
	// tea 3 <nil>
}

// TestThoseWhoAreReadyGoAlong: with one processor, goroutines that only wait for it ask in the same
// call as the one that has it. The scheduler may have others run first, so once is enough.
func TestThoseWhoAreReadyGoAlong(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	together := 0
	for range 1000 {
		var calls atomic.Int64
		g := gather.New(gather.Options[int, int]{Most: 10, Patience: time.Minute, Call: func(_ context.Context, questions []int) []int {
			calls.Add(1)
			return questions
		}})
		var askers sync.WaitGroup
		for q := range 4 {
			askers.Go(func() {
				if a, err := g.Ask(t.Context(), q); a != q || err != nil {
					t.Errorf("got %d, %v, want %d", a, err, q)
				}
			})
		}
		askers.Wait()
		if calls.Load() == 1 {
			together++
		}
	}
	if together == 0 {
		t.Error("four who were ready never asked together")
	}
}
