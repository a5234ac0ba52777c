package consumer_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
)

// mute accepts work and does not answer, or answers with the next errors.
type mute struct {
	*consumertest.Services
	answers []error // for the next calls; then nil
}

func (m *mute) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	id, err := m.Services.Dispatch(ctx, w)
	if len(m.answers) > 0 {
		err, m.answers = m.answers[0], m.answers[1:]
	}
	return id, err
}

// TestWorkWhoseAnswerWasLostEndsOnce: if the gateway does not learn whether work was dispatched, a
// worker may be doing it. So the conversation is not told that it failed, and the same request is
// the same work again.
func TestWorkWhoseAnswerWasLostEndsOnce(t *testing.T) {
	lost, full, spent := consumer.ErrUnavailable, consumer.ErrTooManyTasks, consumer.ErrQuotaExceeded
	for name, test := range map[string]struct {
		answers []error
		code    string // of the error frame, "" for none
		failed  bool   // the conversation gets a failure event
	}{
		"answer lost":                    {answers: []error{lost}},
		"two answers lost":               {answers: []error{lost, lost}, code: "unavailable"},
		"not taken, and then refused":    {answers: []error{lost, full}, code: "too_many_tasks", failed: true},
		"answer lost, and quota used up": {answers: []error{lost, spent}, code: "unavailable"},
		"refused":                        {answers: []error{full}, code: "too_many_tasks", failed: true},
		"quota used up":                  {answers: []error{spent}, code: "quota_exceeded", failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			parts := &mute{new(consumertest.Services), test.answers}
			chat := consumer.JSON(&consumer.Chat{Dispatcher: parts, Recorder: parts, Inputs: parts, Owners: parts, Requests: parts})
			c, ctx := open(t, chat)
			const frame = `{"type":"user_message","message":"Hello","request_id":"r1"}`
			say(ctx, t, c, chat, frame)
			if sent := strings.Join(c.Sent(), ""); strings.Contains(sent, `"error"`) != (test.code != "") || !strings.Contains(sent, test.code) {
				t.Errorf("got %s, want the code %q", sent, test.code)
			}
			first, failed := workOf(t, parts.Calls())
			if failed != test.failed {
				t.Errorf("task_failed: got %t, want %t", failed, test.failed)
			}
			say(ctx, t, c, chat, frame)
			again, failed := workOf(t, parts.Calls())
			if failed || len(again) > 0 && again[0] == first[0] == test.failed {
				t.Errorf("again: got work %q after %q, failed %t", again, first, failed)
			}
		})
	}
}

// TestQuotaUsedUpForWorkThatMayBeDone: if the quota is used up when a request is repeated, that
// says nothing about the work that the first try may have dispatched.
func TestQuotaUsedUpForWorkThatMayBeDone(t *testing.T) {
	parts := &mute{new(consumertest.Services), []error{consumer.ErrUnavailable, consumer.ErrUnavailable, consumer.ErrQuotaExceeded}}
	chat := consumer.JSON(&consumer.Chat{Dispatcher: parts, Recorder: parts, Inputs: parts, Owners: parts, Requests: parts})
	c, ctx := open(t, chat)
	for _, code := range []string{`"unavailable"`, `"quota_exceeded"`, ``} {
		say(ctx, t, c, chat, `{"type":"user_message","message":"Hello","request_id":"r1"}`)
		if sent := strings.Join(c.Sent(), ""); !strings.Contains(sent, code) || code == "" && sent != "" {
			t.Errorf("got %s, want the code %q", sent, code)
		}
	}
	if works, failed := workOf(t, parts.Calls()); failed || len(slices.Compact(works)) != 1 {
		t.Errorf("got work %q, failed %t, want one that did not fail", works, failed)
	}
}

// workOf returns the ids of the dispatched work, and whether a failure was recorded.
func workOf(t *testing.T, calls []string) (works []string, failed bool) {
	t.Helper()
	for _, call := range calls {
		var got struct {
			Dispatch, ID string
			Record       struct{ Type string }
		}
		if err := json.Unmarshal([]byte(call), &got); err != nil {
			t.Fatal(err)
		}
		if got.Dispatch != "" {
			works = append(works, got.ID)
		}
		failed = failed || got.Record.Type == "task_failed"
	}
	return works, failed
}

// queue dispatches each work once, unless it is full or the work was withdrawn.
type queue struct {
	*consumertest.Services
	full bool
	// hurry, if set, is called once, before work is withdrawn.
	hurry func()

	handed, withdrawn map[string]bool
}

func (q *queue) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	if _, err := q.Services.Dispatch(ctx, w); err != nil {
		return "", err
	}
	if !q.handed[w.ID] && (q.full || q.withdrawn[w.ID]) {
		return "", consumer.ErrTooManyTasks
	}
	q.handed[w.ID] = true
	return w.ID, nil
}

func (q *queue) Withdraw(_ context.Context, _, id string) (bool, error) {
	if hurry := q.hurry; hurry != nil {
		q.hurry = nil
		hurry()
	}
	if !q.handed[id] {
		q.withdrawn[id] = true
	}
	return q.withdrawn[id], nil
}

// Again fails.
func (*queue) Again(context.Context, consumer.Request) error { return consumer.ErrUnavailable }

// TestRefusedWorkEndsOnce: work that was refused, and whose conversation was told so, is not
// dispatched later, although the request still counts as the same work. Work that another tab has
// dispatched meanwhile is not reported as failed.
func TestRefusedWorkEndsOnce(t *testing.T) {
	const frame = `{"type":"user_message","message":"Hello","request_id":"r1"}`
	open := func(t *testing.T) (*queue, func() string) {
		t.Helper()
		parts := &queue{Services: new(consumertest.Services), full: true, handed: make(map[string]bool), withdrawn: make(map[string]bool)}
		chat := consumer.JSON(&consumer.Chat{Dispatcher: parts, Recorder: parts, Inputs: parts, Owners: parts, Requests: parts})
		c, ctx := open(t, chat)
		return parts, func() string {
			say(ctx, t, c, chat, frame)
			return strings.Join(c.Sent(), "")
		}
	}
	t.Run("sent again", func(t *testing.T) {
		parts, ask := open(t)
		for i := range 3 {
			if sent := ask(); !strings.Contains(sent, "too_many_tasks") {
				t.Errorf("try %d: got %s, want too_many_tasks", i, sent)
			}
			parts.full = false
		}
		if works, failed := workOf(t, parts.Calls()); !failed || len(slices.Compact(works)) != 1 || len(parts.handed) != 0 {
			t.Errorf("got work %q, failed %t, handed over %v, want one that failed", works, failed, parts.handed)
		}
	})
	t.Run("two tabs", func(t *testing.T) {
		parts, ask := open(t)
		parts.hurry = func() {
			parts.full = false
			ask()
		}
		if sent := ask(); strings.Contains(sent, "error") {
			t.Errorf("got %s, want no error", sent)
		}
		if _, failed := workOf(t, parts.Calls()); failed || len(parts.handed) != 1 {
			t.Errorf("failed %t, handed over %v, want one work that goes on", failed, parts.handed)
		}
	})
}
