package task_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

// The original application left the organization of a task behind in the worker. The next task,
// without an organization, ran as the previous one's tenant.
func TestNextTaskHasNoOrganizationOfTheFormer(t *testing.T) {
	f := newFixture(t)
	o := f.options()
	o.Concurrency, o.Attempts = 1, 1 // one after the other
	var mu sync.Mutex
	var ran []string
	for _, id := range []string{"1", "2", "3"} {
		f.dispatch(t, "acme", "a"+id, `{}`)
		f.add(t, "kind", "job", "id", "none"+id, "group", "jobs", "payload", `{}`)
		f.add(t, "organization_id", "", "kind", "job", "id", "empty"+id, "group", "jobs", "payload", `{}`)
		f.dispatch(t, "globex", "g"+id, `{}`)
	}
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		org, _ := orgctx.From(ctx)
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, org.String()+" "+job.ID)
		if job.ID == "a2" {
			panic("left in the middle")
		}
		return nil, nil
	}), o)
	f.expectDone(t)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"acme a1", "globex g1", "acme a2", "globex g2", "acme a3", "globex g3"}; !slices.Equal(ran, want) {
		t.Errorf("got %v, want %v", ran, want)
	}
	refused := 0
	for _, letter := range f.dead(t) {
		if letter["dead_reason"] == "no_organization" {
			refused++
		}
	}
	if refused != 6 {
		t.Errorf("refused without an organization: got %d, want 6", refused)
	}
}
