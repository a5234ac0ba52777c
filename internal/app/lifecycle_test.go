package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestStackUnwindsInReverse: the last thing acquired goes first, all of them go whatever comes of
// one, and each goes once.
func TestStackUnwindsInReverse(t *testing.T) {
	errFirst, errLast := errors.New("first"), errors.New("last")
	var order []string
	s := newStack()
	s.add("1", undoTimeout, func(context.Context) error { order = append(order, "1"); return errFirst })
	s.add("2", undoTimeout, func(context.Context) error { order = append(order, "2"); return nil })
	s.add("3", undoTimeout, func(context.Context) error { order = append(order, "3"); return errLast })
	for range 2 {
		if err := s.unwind(); !errors.Is(err, errFirst) || !errors.Is(err, errLast) {
			t.Errorf("got %v, want both errors", err)
		}
	}
	if want := []string{"3", "2", "1"}; !slices.Equal(order, want) {
		t.Errorf("got the order %q, want %q", order, want)
	}
	s.add("4", undoTimeout, func(context.Context) error { order = append(order, "4"); return nil })
	if order[len(order)-1] != "4" {
		t.Error("an undo that came too late was not called")
	}
}

// TestStackGivesUpWhatHangs: an undo that does not return holds the others up for its own time
// only, and is named.
func TestStackGivesUpWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := make(chan struct{})
		closed := false
		s := newStack()
		s.add("Redis", undoTimeout, func(context.Context) error { closed = true; return nil })
		s.add("bus", 3*time.Second, func(ctx context.Context) error { <-released; return ctx.Err() })
		begun := time.Now()
		err := s.unwind()
		if err == nil || !strings.Contains(err.Error(), "bus: not done within 3s") {
			t.Errorf("got %v, want that the bus is not done", err)
		}
		if got := time.Since(begun); got != 3*time.Second || !closed {
			t.Errorf("after %s Redis was closed: %t; want true after 3s", got, closed)
		}
		close(released)
	})
}

// TestStackUnwindsOnce: a second shutdown waits until the first has ended.
func TestStackUnwindsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := newStack()
		s.add("slow", undoTimeout, func(context.Context) error { time.Sleep(time.Second); calls++; return nil })
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if err := s.unwind(); err != nil || calls != 1 {
					t.Errorf("got %v after %d calls, want nil after 1", err, calls)
				}
			})
		}
		callers.Wait()
	})
}
