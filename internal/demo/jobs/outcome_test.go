package jobs_test

import (
	"testing"

	"orgcast/internal/demo/jobs"
	"orgcast/internal/task"
)

// TestFirstOutcomeCounts: a research that was cancelled behind its last step does not complete, and
// one that has completed is not cancelled. What repeats its own outcome finds it.
func TestFirstOutcomeCounts(t *testing.T) {
	f := newFixture(t, 0)
	ctx := as(t, "acme")
	store, err := task.NewStore(ctx, f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ run, outcome, want string }{
		{"a", "cancelled t1", "cancelled t1"},
		{"a", "completed", "cancelled t1"},
		{"a", "failed", "cancelled t1"},
		{"a", "cancelled t2", "cancelled t1"},
		{"a", "cancelled t1", "cancelled t1"},
		{"b", "completed", "completed"},
		{"b", "cancelled t3", "completed"},
		{"b", "completed", "completed"},
	} {
		if got, err := jobs.Decide(ctx, store, step.run, step.outcome); err != nil || got != step.want {
			t.Errorf("%s of run %s: got %q, %v, want %q", step.outcome, step.run, got, err, step.want)
		}
	}
}
