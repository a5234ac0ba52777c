package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/quota"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

// TestRightsSuffice has the gateway's user and the worker's do all that their programs do: hand
// over a task, take it, tell of it, ask a person, answer, keep a value, end, fail, and claim a
// conversation.
func TestRightsSuffice(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (connect func(*testing.T, string) redis.UniversalClient){
		"one server": startRedisFor,
		"Cluster":    startClusterFor,
	} {
		t.Run(name, func(t *testing.T) { testRightsSuffice(t, start(t)) })
	}
}

func testRightsSuffice(t *testing.T, connect func(t *testing.T, user string) redis.UniversalClient) {
	t.Helper()
	gateway, worker := connect(t, "gateway"), connect(t, "worker")
	keys := testkit.Keys(t)
	org := testkit.Org(t, "acme")
	webapp := connect(t, "webapp")
	members, err := directory.NewRedis(webapp, keys)
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
	tools := task.NewTools(worker, keys, active, map[string]task.Tool{"echo": func(_ context.Context, _ *task.Store, in json.RawMessage) (json.RawMessage, error) { return in, nil }})
	if err := webapp.HSet(t.Context(), keys.Member(org, "ada"), "status", "active").Err(); err != nil {
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
			if _, err := task.RunTool(ctx, "echo", json.RawMessage(`1`)); err != nil {
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
	}}}, task.Options{Poll: 20 * time.Millisecond, Attempts: 1, Concurrency: 1, Tools: tools})
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
		if _, err := dispatcher.Dispatch(in, task.Task{Kind: "job", ID: id, Group: group, UserID: "ada"}); err != nil {
			t.Fatalf("dispatch: %v", err)
		}
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	}
	testkit.Eventually(t, "the tasks are ended, buried and acknowledged", func() bool {
		open, err1 := gateway.XLen(t.Context(), keys.Tasks("job")).Result()
		waiting, err2 := gateway.LLen(t.Context(), keys.TaskLine(org, "job")).Result()
		return errors.Join(err1, err2) == nil && open+waiting == 0
	})
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
	var heard pubsubtest.Recorder
	pubsubtest.Start(t, bus, &heard)
	pubsubtest.Subscribe(t, bus, chat)
	testkit.Eventually(t, "events flow", func() bool { return bus.Healthy() == nil })
	_, err = bus.Record(t.Context(), chat, []byte(`{"type":"user_message","organization_id":"acme"}`), event.Recording{IdempotencyKey: "k"})
	if err != nil {
		t.Errorf("record: %v", err)
	}
	backend := pubsub.NewRedis(connect(t, "backend"), keys, pubsub.Options{})
	if _, err := backend.Record(t.Context(), group, []byte(`{"type":"note","organization_id":"acme"}`), event.Recording{}); err != nil {
		t.Errorf("record as a back end: %v", err)
	}
	// All that counts connections and looks after them.
	connections := quota.NewRedis(gateway, keys, quota.Options{})
	if err := connections.Take(in, org); err != nil {
		t.Errorf("count a connection: %v", err)
	}
	if _, err := gateway.Exists(t.Context(), keys.UserDisabled("ada")).Result(); err != nil {
		t.Errorf("ask whether a user is shut out: %v", err)
	}
}
