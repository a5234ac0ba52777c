package task_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"orgcast/internal/directory"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// BenchmarkTaskOfAnotherOrganization measures the time from dispatch to start of a task, on an idle
// worker and while another organization has 100,000 tasks of 60 s waiting and running.
func BenchmarkTaskOfAnotherOrganization(b *testing.B) {
	for _, waiting := range []int{0, 100_000} {
		b.Run(fmt.Sprint("waiting=", waiting), func(b *testing.B) { benchmarkStart(b, waiting) })
	}
}

func benchmarkStart(b *testing.B, waiting int) {
	b.Helper()
	client := newClient(redistest.Start(b))
	b.Cleanup(func() { _ = client.Close() })
	keys := testkit.Keys(b)
	d, err := task.NewDispatcher(client, keys, task.DispatcherOptions{})
	if err != nil {
		b.Fatal(err)
	}
	dispatch := func(d *task.Dispatcher, org string, id int) {
		_, err := d.Dispatch(as(b, org), task.Task{Kind: "job", ID: fmt.Sprint(id), Group: testkit.Group(b, org, "jobs"), Payload: json.RawMessage(`{}`)})
		if err != nil {
			b.Fatal(err)
		}
	}
	large, err := task.NewDispatcher(client, keys, task.DispatcherOptions{Limit: (&limits{}).limit})
	if err != nil {
		b.Fatal(err)
	}
	for i := range waiting {
		dispatch(large, "acme", i)
	}
	started := make(chan time.Time)
	w, err := task.NewWorker(client, keys, directory.TrustSession{}, only(func(ctx context.Context, job *task.Job) (any, error) {
		if job.Organization().String() == "globex" {
			started <- time.Now()
			return nil, nil
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}), task.Options{Drain: time.Nanosecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	dispatch(d, "globex", 0)
	<-started
	var took []time.Duration
	id := 0
	for b.Loop() {
		id++
		begun := time.Now()
		dispatch(d, "globex", id)
		took = append(took, (<-started).Sub(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}

// BenchmarkDispatch measures a dispatch, with few and many tasks waiting.
func BenchmarkDispatch(b *testing.B) {
	client := newClient(redistest.Start(b))
	b.Cleanup(func() { _ = client.Close() })
	keys := testkit.Keys(b)
	d, err := task.NewDispatcher(client, keys, task.DispatcherOptions{Limit: (&limits{}).limit})
	if err != nil {
		b.Fatal(err)
	}
	ctx, group := as(b, "acme"), testkit.Group(b, "acme", "jobs")
	id := 0
	for b.Loop() {
		id++
		if _, err := d.Dispatch(ctx, task.Task{Kind: "job", ID: fmt.Sprint(id), Group: group}); err != nil {
			b.Fatal(err)
		}
	}
}
