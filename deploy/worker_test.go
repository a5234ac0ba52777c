package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/task"
)

// TestRightsSuffice has the gateway's user and the worker's do all that their programs do: hand over a
// task, take it, tell of it, ask a person, answer, keep a value, end, fail, and claim a conversation.
func TestRightsSuffice(t *testing.T) {
	connect := startRedisFor(t)
	gateway, worker := connect(t, "gateway"), connect(t, "worker")
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	org, err := orgctx.ParseID("acme")
	if err != nil {
		t.Fatal(err)
	}
	members, err := directory.NewRedis(connect(t, "webapp"), keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := members.PutOrganization(t.Context(), org, directory.Active); err != nil {
		t.Fatal(err)
	}
	active, err1 := directory.NewRedis(worker, keys)
	asks, err2 := task.NewAsks(worker, keys)
	answers, err3 := task.NewAsks(gateway, keys)
	dispatcher, err4 := task.NewDispatcher(gateway, keys, task.DispatcherOptions{})
	objects, err5 := directory.NewObjects(gateway, keys, nil)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2) // one for each task
	w, err := task.NewWorker(worker, keys, active, map[string]task.Kind{"job": {Run: func(ctx context.Context, job *task.Job) (any, error) {
		err := func() error {
			if err := job.Progress(ctx, map[string]string{"type": "step"}); err != nil {
				return err
			}
			if err := job.Publish(ctx, "board", map[string]string{"type": "step"}); err != nil {
				return err
			}
			if err := job.Store.Set(ctx, job.ID, []byte("1"), time.Minute); err != nil {
				return err
			}
			if _, err := job.Store.Get(ctx, job.ID); err != nil {
				return err
			}
			if err := job.Store.Delete(ctx, job.ID); err != nil {
				return err
			}
			if _, err := asks.Open(ctx, job.ID, 0, json.RawMessage(`"?"`), time.Minute); err != nil {
				return err
			}
			if err := answers.Answer(ctx, job.ID, 0, "yes"); err != nil {
				return err
			}
			if _, err := asks.Wait(ctx, job.ID, 0); err != nil {
				return err
			}
			return asks.Close(ctx, job.ID, 0)
		}()
		ended <- err
		if job.ID == "fails" {
			return nil, task.Fail("on_purpose")
		}
		return nil, nil
	}}}, task.Options{Poll: 20 * time.Millisecond, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1) // Run ends once
	go func() { stopped <- w.Run(ctx) }()

	in := orgctx.With(t.Context(), org)
	group, err := event.NewGroup(org, "jobs")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"ends", "fails"} {
		if _, err := dispatcher.Dispatch(in, task.Task{Kind: "job", ID: id, Group: group}); err != nil {
			t.Fatalf("dispatch: %v", err)
		}
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	}
	deadline := time.After(20 * time.Second)
	for gateway.XLen(t.Context(), keys.Tasks("job")).Val() > 0 { // ended, buried and acknowledged
		select {
		case <-deadline:
			t.Fatal("the tasks are still there")
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	recorded, err := gateway.XRevRangeN(t.Context(), keys.History(group), "+", "-", 10).Result()
	if err != nil || len(recorded) != 4 {
		t.Errorf("history: got %v, %v, want two steps and two ends", recorded, err)
	}
	for _, want := range []bool{true, true} { // made, then renewed
		if owner, err := objects.Claim(in, "chat", "c", "ada"); err != nil || owner != want {
			t.Errorf("claim: got %v, %v, want %v", owner, err, want)
		}
	}
	chat, err := event.NewGroup(org, "chat_c")
	if err != nil {
		t.Fatal(err)
	}
	bus := pubsub.NewRedis(gateway, keys, pubsub.Options{})
	_, err = bus.Record(t.Context(), chat, []byte(`{"type":"user_message","organization_id":"acme"}`), pubsub.RecordOptions{IdempotencyKey: "k"})
	if err != nil {
		t.Errorf("record: %v", err)
	}
}
