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

// mute takes work and does not answer, or answers with what comes next.
type mute struct {
	*consumertest.Services
	answers []error // of the next calls; then nil
}

func (m *mute) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	id, err := m.Services.Dispatch(ctx, w)
	if len(m.answers) > 0 {
		err, m.answers = m.answers[0], m.answers[1:]
	}
	return id, err
}

// TestWorkWhoseAnswerWasLostEndsOnce: if the gateway does not learn whether work was handed over, a worker may be
// doing it. So the conversation is not told that it failed, and the same request is the same work again.
func TestWorkWhoseAnswerWasLostEndsOnce(t *testing.T) {
	lost, full, spent := consumer.ErrUnavailable, consumer.ErrTooManyTasks, consumer.ErrQuotaExceeded
	for name, test := range map[string]struct {
		answers []error
		code    string // of the error frame, "" for none
		failed  bool   // whether the conversation hears of a failure
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

// TestQuotaUsedUpForWorkThatMayBeDone: a quota that is used up when a request comes again says nothing about the
// work that its first try may have handed over.
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

// workOf returns the ids of the work that was handed over, and whether a failure was recorded.
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
