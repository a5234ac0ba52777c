package consumer_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
)

// cancelResearch sends cancel_research and returns the group in which its worker answers.
func cancelResearch(ctx context.Context, t *testing.T, c *consumertest.Conn, services *consumertest.Services, cons consumer.OrganizationAwareConsumer, frame string) string {
	t.Helper()
	say(ctx, t, c, cons, frame)
	var work struct {
		Dispatch, Group string
	}
	calls := services.Calls()
	if len(calls) != 1 || json.Unmarshal([]byte(calls[0]), &work) != nil || work.Dispatch != "cancel_research" || !strings.HasPrefix(work.Group, "reply_") {
		t.Fatalf("got %q, want cancel_research with a group of its own", calls)
	}
	return work.Group
}

// TestCancelAnswersOneConnection: cancel_response goes once, with its request_id, to the connection
// that canceled, whatever terminal event the worker sends. Viewers of the research never get it.
func TestCancelAnswersOneConnection(t *testing.T) {
	for name, test := range map[string]struct{ end, want string }{
		"accepted": {`{"type":"cancel_response","success":true,"message":"The research stops."}`, `{"type":"cancel_response","success":true,"message":"The research stops.","request_id":"r1"}`},
		"refused":  {`{"type":"cancel_response","success":false,"message":"The research has already ended."}`, `{"type":"cancel_response","success":false,"message":"The research has already ended.","request_id":"r1"}`},
		"failed":   {`{"type":"task_failed","task_id":"x","code":"crashed"}`, `{"type":"cancel_response","success":false,"message":"Something went wrong.","code":"crashed","request_id":"r1"}`},
		"silent":   {`{"type":"task_complete","task_id":"x"}`, `{"type":"cancel_response","success":true,"message":"","request_id":"r1"}`},
		"odd":      {`{"type":"cancel_response","success":"yes","message":7}`, `{"type":"cancel_response","success":false,"message":"","request_id":"r1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			services := new(consumertest.Services)
			cons := jobConsumers(services)["research"]()
			c, ctx := open(t, cons)
			viewer, _ := open(t, jobConsumers(services)["research"]())
			const frame = `{"type":"cancel_research","request_id":"r1"}`
			group := cancelResearch(ctx, t, c, services, cons, frame)
			progress := c.Event(t, group, `{"type":"step_update","step":"x"}`, 1)
			end := c.Event(t, group, test.end, 2)
			for range 2 { // a repeated event is answered once
				for _, conn := range []*consumertest.Conn{c, viewer} {
					conn.Deliver(ctx, cons, progress)
					conn.Deliver(ctx, cons, end)
				}
			}
			compare(t, "answer", []string{test.want}, c.Sent())
			compare(t, "viewer", []string{}, viewer.Sent())
			// The same request again gets the first answer again.
			c.History[group] = append(c.History[group], progress, end)
			say(ctx, t, c, cons, frame)
			compare(t, "answer again", []string{test.want}, c.Sent())
			compare(t, "asked again", []string{}, services.Calls())
			if joined := c.Joined(); len(joined) != 1 || joined[0] != "research_7" {
				t.Errorf("joined: got %q, want research_7 alone", joined)
			}
		})
	}
}

// TestFailedCancelEndsNoResearch: the outcome of a cancellation is not in the research's history,
// so a finished research stays finished.
func TestFailedCancelEndsNoResearch(t *testing.T) {
	services := new(consumertest.Services)
	cons := jobConsumers(services)["research"]()
	c, ctx := open(t, cons)
	c.History["research_7"] = append(c.History["research_7"], c.Event(t, "research_7", `{"type":"status_update","status":"completed","progress":100}`, 1))
	group := cancelResearch(ctx, t, c, services, cons, `{"type":"cancel_research"}`)
	failed := c.Event(t, group, `{"type":"task_failed","task_id":"x","code":"crashed"}`, 2)
	c.History[group] = append(c.History[group], failed)
	c.Deliver(ctx, cons, failed)
	compare(t, "answer", []string{`{"type":"cancel_response","success":false,"message":"Something went wrong.","code":"crashed"}`}, c.Sent())
	say(ctx, t, c, cons, `{"type":"get_state"}`)
	if state := strings.Join(c.Sent(), ""); !strings.Contains(state, `"status":"completed"`) {
		t.Errorf("state: got %s, want completed", state)
	}
}
