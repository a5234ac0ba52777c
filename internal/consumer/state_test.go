package consumer_test

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
)

// TestFirstStateIsBounded: however many events a job has, its first state fits into the queue of a
// connection, and shows the newest.
func TestFirstStateIsBounded(t *testing.T) {
	const events, size, limit = 400, 4000, 300 << 10
	fields := func(i int) string {
		text := strings.Repeat("x", size) + "-" + strconv.Itoa(i)
		return `{"type":"TYPE","step":"` + text + `","messages":["` + text + `"],"execution_id":"e` + strconv.Itoa(i) + `","stage":"` + text + `"}`
	}
	tests := map[string]struct{ group, typ string }{
		"chat":           {"chat_" + conversationQuery, "agent_message"},
		"research":       {"research_7", "step_update"},
		"crew_execution": {"crew_execution_7", "crew_execution_update"},
		"crew_kanban":    {"crew_7_kanban", "execution_update"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := consumertest.New(t, "acme", "ada")
			c.Params, c.Request = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}
			for i := range events {
				c.History[test.group] = append(c.History[test.group], c.Event(t, test.group, strings.Replace(fields(i), "TYPE", test.typ, 1), uint64(i+1)))
			}
			if err := jobConsumers(new(consumertest.Services))[name]().Connect(c.Context(t.Context()), c); err != nil {
				t.Fatal(err)
			}
			all := strings.Join(c.Sent(), "")
			if len(all) > limit || !strings.Contains(all, "x-"+strconv.Itoa(events-1)+`"`) || strings.Contains(all, `x-0"`) {
				t.Errorf("got %d bytes, want at most %d, with the newest and without the oldest", len(all), limit)
			}
		})
	}
}

// TestFirstStateOfManyFieldsIsBounded: fields with different names in each event do not add up
// without limit.
func TestFirstStateOfManyFieldsIsBounded(t *testing.T) {
	const events, size, limit = 100, 8000, 300 << 10
	for name, test := range map[string]struct{ group, fields string }{
		"research":       {"research_7", `{"type":"status_update","status":"running","NAME":"TEXT"}`},
		"meta_tags":      {"metatags_task_7", `{"type":"status_update","status":"running","NAME":"TEXT"}`},
		"crew_execution": {"crew_execution_7", `{"type":"crew_execution_update","status":"running","NAME":"TEXT"}`},
		"seo_audit":      {"audit_7", `{"type":"audit.update","data":{"status":"running","NAME":"TEXT"}}`},
		"crew_kanban":    {"crew_7_kanban", `{"type":"execution_update","execution_id":"e1","status":"running","NAME":"TEXT"}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := consumertest.New(t, "acme", "ada")
			c.Params = map[string]string{"id": "7"}
			for i := range events {
				fields := strings.NewReplacer("NAME", "field"+strconv.Itoa(i), "TEXT", strings.Repeat("x", size)).Replace(test.fields)
				c.History[test.group] = append(c.History[test.group], c.Event(t, test.group, fields, uint64(i+1)))
			}
			if err := jobConsumers(new(consumertest.Services))[name]().Connect(c.Context(t.Context()), c); err != nil {
				t.Fatal(err)
			}
			all := strings.Join(c.Sent(), "")
			if len(all) > limit || !strings.Contains(all, `"field99"`) || !strings.Contains(all, `"running"`) || strings.Contains(all, `"field0"`) {
				t.Errorf("got %d bytes, want at most %d, with the newest field and the status and without the oldest field", len(all), limit)
			}
		})
	}
}

// TestConversationHasOneOwner: in each organization, a conversation belongs to its first user.
func TestConversationHasOneOwner(t *testing.T) {
	services := new(consumertest.Services)
	chat := jobConsumers(services)["chat"]()
	open := func(org, user string) error {
		c := consumertest.New(t, org, user)
		c.Request = url.Values{"session": {conversationQuery}}
		return chat.Connect(c.Context(t.Context()), c)
	}
	for _, who := range []struct {
		org, user string
		want      error
	}{{"acme", "ada", nil}, {"acme", "alan", consumer.ErrNotFound}, {"globex", "alan", nil}, {"acme", "ada", nil}, {"globex", "ada", consumer.ErrNotFound}} {
		if err := open(who.org, who.user); !errors.Is(err, who.want) {
			t.Errorf("%s of %s: got %v, want %v", who.user, who.org, err, who.want)
		}
	}
	services.Err = consumer.ErrUnavailable
	if err := open("acme", "ada"); !errors.Is(err, consumer.ErrUnavailable) {
		t.Errorf("without a directory: got %v, want %v", err, consumer.ErrUnavailable)
	}
}

// speechless is a recorder that does not answer.
type speechless struct{}

func (speechless) Record(context.Context, string, string, any) error {
	return consumer.ErrUnavailable
}

func (speechless) RecordFailure(context.Context, string, string, any) error {
	return consumer.ErrUnavailable
}

func (speechless) Recorded(context.Context, string, string) (event.Position, bool, error) {
	return event.Position{}, false, consumer.ErrUnavailable
}

// TestNothingIsShown: if the conversation cannot show a user's message, no agent gets it either. An
// answer that a run has accepted is confirmed nevertheless, because it cannot be given again.
func TestNothingIsShown(t *testing.T) {
	services := new(consumertest.Services)
	chat := consumer.JSON(&consumer.Chat{Dispatcher: services, Recorder: speechless{}, Inputs: services, Owners: services, Requests: services})
	c, ctx := open(t, chat)
	say(ctx, t, c, chat, `{"type":"user_message","message":"Hello","request_id":"c1"}`)
	compare(t, "message", []string{`{"type":"error","code":"unavailable","message":"Temporarily unavailable. Try again later.","request_id":"c1"}`}, c.Sent())
	compare(t, "asked", []string{}, services.Calls())
	say(ctx, t, c, chat, `{"type":"user_message","message":"yes","request_id":"c2","context":{"is_human_input":true,"execution_id":"e1","task_index":0}}`)
	compare(t, "answer", []string{`{"type":"human_input_accepted","execution_id":"e1","task_index":0,"request_id":"c2"}`}, c.Sent())
}

// TestLongText: a person's text is limited, and may be as long as the limit.
func TestLongText(t *testing.T) {
	const most = 64 << 10
	for length, accepted := range map[int]bool{most: true, most + 1: false} {
		text := strings.Repeat("x", length)
		services := new(consumertest.Services)
		for name, frame := range map[string]string{
			"chat": `{"type":"user_message","message":"` + text + `"}`, "crew_kanban": `{"type":"human_input","input_key":"e1:0","input":"` + text + `"}`,
		} {
			cons := jobConsumers(services)[name]()
			c, ctx := open(t, cons)
			say(ctx, t, c, cons, frame)
			if got := len(services.Calls()) > 0; got != accepted {
				t.Errorf("%s: %d bytes: got %t, want %t", name, length, got, accepted)
			}
			if refused := strings.Contains(strings.Join(c.Sent(), ""), consumer.CodeBadMessage); refused == accepted {
				t.Errorf("%s: %d bytes: refused: got %t, want %t", name, length, refused, !accepted)
			}
		}
	}
}

// open connects ada of acme, and drops the first state.
func open(t *testing.T, cons consumer.OrganizationAwareConsumer) (*consumertest.Conn, context.Context) {
	t.Helper()
	c := consumertest.New(t, "acme", "ada")
	c.Params, c.Request = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}
	ctx := c.Context(t.Context())
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	c.Sent()
	return c, ctx
}

// say sends a frame that must not end the connection.
func say(ctx context.Context, t *testing.T, c *consumertest.Conn, cons consumer.OrganizationAwareConsumer, frame string) {
	t.Helper()
	if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(frame)}); err != nil {
		t.Fatal(err)
	}
}
