package app

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestReloadIsAllOrNothing: a step that finds a mistake keeps the others from being applied, and
// every mistake is told.
func TestReloadIsAllOrNothing(t *testing.T) {
	var applied []string
	step := func(name string, err error) reloadStep {
		return func(*Options) (func(), error) {
			return func() { applied = append(applied, name) }, err
		}
	}
	s := new(reloadSteps)
	s.add(step("first", nil))
	s.add(step("second", os.ErrNotExist))
	s.add(step("third", context.Canceled))
	if _, err := prepare(s.steps, new(Options)); err == nil || !strings.Contains(err.Error(), os.ErrNotExist.Error()) || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v, want both mistakes", err)
	}
	s.steps = []reloadStep{step("first", nil), step("second", nil), func(*Options) (func(), error) { return nil, nil }}
	apply, err := prepare(s.steps, new(Options))
	if err != nil || len(applied) > 0 {
		t.Fatalf("got %v, and applied %q before it was asked to", err, applied)
	}
	if apply(); strings.Join(applied, " ") != "first second" {
		t.Errorf("applied %q, want both", applied)
	}
}
