package task_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

type object = map[string]any

func TestTaskFromStartToEnd(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	tools := newTools(f, map[string]task.Tool{"who": func(ctx context.Context, _ *task.Store, _ json.RawMessage) (json.RawMessage, error) {
		org, _ := orgctx.From(ctx)
		return json.Marshal(org)
	}})
	o := f.options()
	o.Tools = tools
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		if err := job.Progress(ctx, object{"type": "step", "user": job.UserID, "payload": job.Payload}); err != nil {
			return nil, err
		}
		if err := job.Store.Set(ctx, "seen", []byte(job.ID), 0); err != nil {
			return nil, err
		}
		who, err := task.RunTool(ctx, "who", json.RawMessage(`null`))
		return object{"type": "audit.complete", "who": who, "attempt": job.Attempt}, err
	}), o)
	f.dispatch(t, "acme", "1", `{"n":1}`)
	f.dispatch(t, "globex", "1", `{"n":2}`)
	f.expectDone(t)
	want := map[string][]object{
		"acme": {
			{"type": "step", "organization_id": "acme", "user": "7", "payload": object{"n": 1.0}},
			{"type": "audit.complete", "organization_id": "acme", "who": "acme", "attempt": 1.0},
		},
		"globex": {
			{"type": "step", "organization_id": "globex", "user": "7", "payload": object{"n": 2.0}},
			{"type": "audit.complete", "organization_id": "globex", "who": "globex", "attempt": 1.0},
		},
	}
	got := make(map[string][]object)
	for _, s := range h.expect(t, 4) {
		org, _, _ := strings.Cut(strings.TrimPrefix(s.channel, "orgcast:{"), "}")
		got[org] = append(got[org], s.fields)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events: want (-), got (+):\n%s", diff)
	}
	if got := f.client.Get(t.Context(), "orgcast:{globex}:store:seen").Val(); got != "1" {
		t.Errorf("store of globex: got %q, want 1", got)
	}
	if dead := f.dead(t); len(dead) != 0 {
		t.Errorf("dead letters: got %v, want none", dead)
	}
	if got := f.counter(t, "orgcast_tasks_ended_total", "complete"); got != 2 {
		t.Errorf("ended: got %v, want 2", got)
	}
}

// Fault: work that runs although the organization is unknown.
func TestRefusedEntries(t *testing.T) {
	tests := map[string]struct {
		fields []any
		reason string
	}{
		"no organization":        {[]any{"kind", "job", "id", "1", "group", "jobs", "payload", `"secret"`}, "no_organization"},
		"empty organization":     {[]any{"organization_id", "", "kind", "job", "id", "1", "group", "jobs"}, "no_organization"},
		"unknown organization":   {[]any{"organization_id", "nowhere", "kind", "job", "id", "1", "group", "jobs"}, "organization_unknown"},
		"suspended organization": {[]any{"organization_id", "closed", "kind", "job", "id", "1", "group", "jobs"}, "organization_suspended"},
		"payload no JSON":        {[]any{"organization_id", "acme", "kind", "job", "id", "1", "group", "jobs", "payload", "secret"}, "malformed"},
		"no id":                  {[]any{"organization_id", "acme", "kind", "job", "group", "jobs"}, "malformed"},
		"another kind":           {[]any{"organization_id", "acme", "kind", "jobs", "id", "1", "group", "jobs"}, "malformed"},
		"foreign channel":        {[]any{"organization_id", "acme", "kind", "job", "id", "1", "group", "orgcast:{globex}:group:jobs"}, "malformed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			f.add(t, test.fields...)
			var ran atomic.Bool
			f.work(t, only(func(context.Context, *task.Job) (any, error) {
				ran.Store(true)
				return nil, nil
			}), f.options())
			f.expectDone(t)
			dead := f.dead(t)
			if len(dead) != 1 || dead[0]["dead_reason"] != test.reason {
				t.Fatalf("dead letters: got %v, want one for %s", dead, test.reason)
			}
			for i := 0; i < len(test.fields); i += 2 {
				if got := dead[0][test.fields[i].(string)]; got != test.fields[i+1] {
					t.Errorf("dead letter's %v: got %v, want %v", test.fields[i], got, test.fields[i+1])
				}
			}
			if ran.Load() {
				t.Error("the handler ran")
			}
			// Nothing is published for an unknown organization, or for an entry that is not a task.
			if got := h.events(); len(got) != 0 && test.reason != "organization_suspended" {
				t.Errorf("published: %v", got)
			}
			if got := f.counter(t, "orgcast_tasks_refused_total", test.reason); got != 1 {
				t.Errorf("refused: got %v, want 1", got)
			}
			if log := f.log.String(); !strings.Contains(log, test.reason) || strings.Contains(log, "secret") {
				t.Errorf("log: want the reason and no payload, got %s", log)
			}
		})
	}
}

// TestRefusedWorkEnds: viewers of work that is refused because its organization is suspended get
// one terminal event, in the form of its kind. Fault: jobs without a terminal event.
func TestRefusedWorkEnds(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	f.work(t, map[string]task.Kind{
		"job": {Run: func(context.Context, *task.Job) (any, error) {
			t.Error("the handler ran")
			return nil, nil
		}, Failed: func(_ *task.Job, code string) any {
			return task.End{Event: object{"type": "job_failed", "why": code}, Also: []task.Notice{{Group: "board.1", Event: object{"type": "row", "status": "failed"}}}}
		}},
	}, f.options())
	for range 2 { // the entry comes twice, the end once
		f.add(t, "organization_id", "closed", "kind", "job", "id", "1", "group", "jobs")
	}
	f.expectDone(t)
	want := map[string]object{
		"orgcast:{closed}:group:jobs":    {"type": "job_failed", "why": task.CodeRefused, "organization_id": "closed"},
		"orgcast:{closed}:group:board.1": {"type": "row", "status": "failed", "organization_id": "closed"},
	}
	got := make(map[string]object)
	for _, s := range h.expect(t, 2) {
		got[s.channel] = s.fields
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published: want (-), got (+):\n%s", diff)
	}
	for _, letter := range f.dead(t) {
		if letter["dead_reason"] != "organization_suspended" {
			t.Errorf("dead letter: got %v, want organization_suspended", letter["dead_reason"])
		}
	}
}

func TestStopGivesTasksBack(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	o := f.options()
	o.Drain, o.Takeover = time.Millisecond, time.Hour // a stopping worker need not be waited for
	started := make(chan struct{})
	stop := f.work(t, only(func(ctx context.Context, _ *task.Job) (any, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}), o)
	f.dispatch(t, "acme", "1", `null`)
	<-started
	if err := stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	o.Registerer = nil
	f.work(t, only(func(_ context.Context, job *task.Job) (any, error) {
		return object{"type": "done", "attempt": job.Attempt}, nil
	}), o)
	f.expectDone(t)
	if got := h.expect(t, 1)[0].fields["attempt"]; got != 1.0 {
		t.Errorf("attempt: got %v, want 1: being stopped is no failure", got)
	}
}

func TestStopLetsTasksFinish(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	stop := f.work(t, only(func(context.Context, *task.Job) (any, error) {
		close(started)
		<-goOn
		return nil, nil
	}), f.options())
	f.dispatch(t, "acme", "1", `null`)
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(goOn)
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	h.expect(t, 1)
	consumers, err := f.client.XInfoConsumers(t.Context(), f.keys.Tasks("job"), "workers").Result()
	if err != nil || len(consumers) != 0 {
		t.Errorf("consumers after the goodbye: got %v, %v, want none", consumers, err)
	}
}

// A question outlives the attempt that asked it.
func TestTaskAsksAPerson(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	asks, err := task.NewAsks(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		opened, err := asks.Open(ctx, job.ID, 0, json.RawMessage(`"sure?"`), 0)
		if err != nil {
			return nil, err
		}
		if opened {
			if err := job.Progress(ctx, object{"type": "human_input_request", "execution_id": job.ID, "task_index": 0, "prompt": "sure?"}); err != nil {
				return nil, err
			}
		}
		input, err := asks.Wait(ctx, job.ID, 0)
		if err == nil && job.Attempt == 1 {
			panic("after the answer")
		}
		return object{"type": "task_complete", "input": input}, err
	}), f.options())
	f.dispatch(t, "acme", "e1", `null`)
	f.dispatch(t, "globex", "e1", `null`)
	h.expect(t, 2)
	for _, org := range []string{"globex", "acme"} {
		if err := asks.Answer(as(t, org), "e1", 0, "yes, "+org); err != nil {
			t.Errorf("Answer of %s: %v", org, err)
		}
	}
	f.expectDone(t)
	for _, s := range h.expect(t, 4) {
		if input, ok := s.fields["input"]; ok && input != "yes, "+s.fields["organization_id"].(string) {
			t.Errorf("%s got the input %v", s.channel, input)
		}
	}
}

func TestNewWorkerRefuses(t *testing.T) {
	f := newFixture(t)
	for name, kinds := range map[string]map[string]task.Kind{
		"nothing": nil, "no handler": only(nil), "bad kind": {"a:b": {Run: func(context.Context, *task.Job) (any, error) { return nil, nil }}},
	} {
		if _, err := task.NewWorker(f.client, f.keys, f.directory, kinds, task.Options{}); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
