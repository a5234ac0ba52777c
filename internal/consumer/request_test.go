package consumer_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
)

// TestRequestIDsOfTwoUsers: two users of one organization may use the same request_id, for equal
// and for different requests.
func TestRequestIDsOfTwoUsers(t *testing.T) {
	services := new(consumertest.Services)
	for user, input := range map[string]string{"ada": "yes", "alan": "no"} {
		board := jobConsumers(services)["crew_kanban"]()
		c := consumertest.New(t, "acme", user)
		c.Params = map[string]string{"id": "7"}
		ctx := c.Context(t.Context())
		if err := board.Connect(ctx, c); err != nil {
			t.Fatal(err)
		}
		c.Sent()
		say(ctx, t, c, board, `{"type":"human_input","input_key":"e1:0","input":"`+input+`","request_id":"r1"}`)
		compare(t, user, []string{`{"type":"human_input_accepted","execution_id":"e1","task_index":0,"request_id":"r1"}`}, c.Sent())
		compare(t, user+" asked", []string{`{"answer":"` + input + `","execution":"e1","task_index":0,"once":"CHANCE"}`}, services.Calls())
	}
}

// TestRequestIDInAnotherConversation: a request_id that a user has used for a message is taken in
// all conversations of that user. No message is lost, and no crew gets the answer meant for another
// one.
func TestRequestIDInAnotherConversation(t *testing.T) {
	services := new(consumertest.Services)
	start := func(session string) string {
		chat := jobConsumers(services)["chat"]()
		c := consumertest.New(t, "acme", "ada")
		c.Request = url.Values{"session": {session}}
		ctx := c.Context(t.Context())
		if err := chat.Connect(ctx, c); err != nil {
			t.Fatal(err)
		}
		c.Sent()
		say(ctx, t, c, chat, `{"type":"start_crew","crew_id":"writers","request_id":"r1"}`)
		return strings.Join(c.Sent(), "")
	}
	first := start(conversationQuery)
	if !strings.Contains(first, `"crew_started"`) {
		t.Fatalf("got %s, want crew_started", first)
	}
	if again := start(conversationQuery); again != first {
		t.Errorf("again: got %s, want %s", again, first)
	}
	if other := start(strings.Replace(conversationQuery, "0", "1", 1)); !strings.Contains(other, `"conflict"`) {
		t.Errorf("another conversation: got %s, want conflict", other)
	}
}

// TestAnswerOfAFinishedRequestIsNotDoneAgain: an accepted answer stays accepted, even if its
// question is closed by the time the request is repeated.
func TestAnswerOfAFinishedRequestIsNotDoneAgain(t *testing.T) {
	services := new(consumertest.Services)
	board := jobConsumers(services)["crew_kanban"]()
	c, ctx := open(t, board)
	const frame = `{"type":"human_input","input_key":"e1:0","input":"yes","request_id":"r1"}`
	say(ctx, t, c, board, frame)
	first := c.Sent()
	say(ctx, t, c, board, frame)
	compare(t, "again", first, c.Sent())
	if calls := services.Calls(); len(calls) != 1 {
		t.Errorf("asked: got %q, want one answer", calls)
	}
}

// leaving ends the connection's context after something was recorded.
type leaving struct {
	*consumertest.Services
	leave context.CancelFunc
}

func (l leaving) Record(ctx context.Context, name, key string, v any) error {
	err := l.Services.Record(ctx, name, key, v)
	l.leave()
	return errors.Join(err, ctx.Err())
}

func (l leaving) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return l.Services.Dispatch(ctx, w)
}

// TestMessageAndItsWorkGoTogether: a connection that ends between a message and its work completes
// both. One that ended before does neither.
func TestMessageAndItsWorkGoTogether(t *testing.T) {
	for name, frame := range map[string]string{
		"message": `{"type":"user_message","message":"Hello","request_id":"r1"}`,
		"crew":    `{"type":"start_crew","crew_id":"writers","request_id":"r1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			services := new(consumertest.Services)
			c := consumertest.New(t, "acme", "ada")
			c.Request = url.Values{"session": {conversationQuery}}
			ctx, cancel := context.WithCancel(c.Context(t.Context()))
			defer cancel()
			parts := leaving{services, cancel}
			chat := consumer.JSON(&consumer.Chat{Dispatcher: parts, Recorder: parts, Inputs: parts, Owners: parts, Requests: parts})
			if err := chat.Connect(ctx, c); err != nil {
				t.Fatal(err)
			}
			c.Sent()
			say(ctx, t, c, chat, frame)
			calls := services.Calls()
			if len(calls) != 2 || strings.Contains(strings.Join(calls, ""), "task_failed") {
				t.Errorf("got %q, want the record and the work", calls)
			}
			if sent := strings.Join(c.Sent(), ""); strings.Contains(sent, `"error"`) {
				t.Errorf("got %s, want no error", sent)
			}
			if err := chat.Receive(ctx, c, event.RawMessage{Data: []byte(strings.Replace(frame, "r1", "r2", 1))}); !errors.Is(err, context.Canceled) {
				t.Errorf("after the end: got %v, want %v", err, context.Canceled)
			}
			if calls := services.Calls(); len(calls) != 0 {
				t.Errorf("after the end: got %q, want nothing", calls)
			}
		})
	}
}

// TestCutByTwoTabs: a message that one tab has cut already is not cut again by another one. Later
// messages stay, on open pages and on those that open later.
func TestCutByTwoTabs(t *testing.T) {
	chat := jobConsumers(new(consumertest.Services))["chat"]()
	c, ctx := open(t, chat)
	const group = "chat_" + conversationQuery
	var want []string
	for i, fields := range []string{
		`{"type":"user_message","message_id":"m1","message":"one"}`,
		`{"type":"user_message","message_id":"m2","message":"two"}`,
		`{"type":"conversation_cut","message_id":"m1","from":"1700000000000-0"}`,
		`{"type":"user_message","message_id":"m3","message":"three"}`,
		`{"type":"conversation_cut","message_id":"m2","from":"1700000001000-0"}`,
	} {
		e := c.Event(t, group, fields, uint64(i+1))
		c.History[group] = append(c.History[group], e)
		c.Deliver(ctx, chat, e)
		if i < 4 {
			want = append(want, string(e.Payload()))
		}
	}
	compare(t, "live", want, c.Sent())
	if err := jobConsumers(new(consumertest.Services))["chat"]().Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	compare(t, "later", []string{want[3], `{"type":"system_message","connection_status":"connected","session_id":"` + conversationQuery + `","participant_type":"agent"}`}, c.Sent())
}

// TestEditOfWhatWasCut: a message that was removed together with an earlier one is no longer in the
// conversation. Cutting the earlier one again has no effect.
func TestEditOfWhatWasCut(t *testing.T) {
	services := new(consumertest.Services)
	chat := jobConsumers(services)["chat"]()
	c, ctx := open(t, chat)
	say(ctx, t, c, chat, `{"type":"user_message","message":"one","request_id":"m1"}`)
	say(ctx, t, c, chat, `{"type":"user_message","message":"two","request_id":"m2"}`)
	const behind = 100_000_002 // number of events, each of one second
	c.Deliver(ctx, chat, c.Event(t, "chat_"+conversationQuery, `{"type":"conversation_cut","message_id":"m1","from":"1800000000000-0"}`, behind))
	c.Sent()
	services.Calls()
	say(ctx, t, c, chat, `{"type":"edit","message_id":"m2"}`)
	compare(t, "gone", []string{`{"type":"error","code":"unknown_message","message":"No such message in this conversation."}`}, c.Sent())
	compare(t, "asked", []string{}, services.Calls())
	say(ctx, t, c, chat, `{"type":"edit","message_id":"m1"}`)
	compare(t, "again", []string{}, c.Sent())
	if calls := services.Calls(); len(calls) != 2 || !strings.Contains(calls[0], `"once":"cut:m1"`) {
		t.Errorf("got %q, want the same cut and its work", calls)
	}
}
