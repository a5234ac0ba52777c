package consumer_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

const conversationQuery = "0b5cd2c5-3f0e-4a7e-9d53-8f1f6a3b1f00"

// FuzzReceive: whatever a browser sends, each consumer answers with JSON objects, requests nothing
// in another's name, and stays open, unless the frame was binary.
func FuzzReceive(f *testing.F) {
	for _, seed := range []string{
		`{"type":"ping"}`, `{"message":"hello"}`, `{"type":"get_state"}`, `{"type":"cancel_research"}`, `{"type":"test"}`, "", "null", "[1]", "\xff",
		`{"type":"user_message","message":"hello","agent_id":7,"client_id":"c1","context":{"is_human_input":true,"input_key":"e1:2"}}`,
		`{"type":"crew_message","message":"hello","model":"m"}`, `{"type":"start_crew","crew_id":"writers"}`, `{"type":"edit","message_id":-1}`,
		`{"type":"human_input","execution_id":"e1","task_index":0,"input":"x"}`, `{"type":"human_input","input_key":"e1:00","input":"x"}`,
		`{"type":"execution_update","organization_id":"globex"}`,
	} {
		f.Add([]byte(seed), false)
	}
	f.Add([]byte(`{"type":"ping"}`), true)
	f.Fuzz(func(t *testing.T, data []byte, binary bool) {
		services := new(consumertest.Services)
		for name, fn := range jobConsumers(services) {
			c := consumertest.New(t, "acme", "ada")
			c.Params, c.Request = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}
			ctx, cons := c.Context(t.Context()), fn()
			if err := cons.Connect(ctx, c); err != nil {
				t.Fatalf("%s: Connect: %v", name, err)
			}
			c.Sent()
			err := cons.Receive(ctx, c, event.RawMessage{Binary: binary, Data: data})
			if binary != errors.Is(err, consumer.ErrTextRequired) || !binary && err != nil {
				t.Errorf("%s: binary %t: got %v", name, binary, err)
			}
			for _, frame := range c.Sent() {
				var object struct {
					Type  string
					Event struct{ Type string }
				}
				if err := json.Unmarshal([]byte(frame), &object); err != nil || (object.Type == "") == (object.Event.Type == "") {
					t.Errorf("%s: got %s, want an object or an event with a type", name, frame)
				}
			}
			for _, call := range services.Calls() {
				var w struct{ User, Group, Once string }
				if err := json.Unmarshal([]byte(call), &w); err != nil {
					t.Fatal(err)
				}
				if w.User != "" && w.User != "ada" || w.Group != "" && !event.ValidGroupName(w.Group) || w.Once != "" && !event.ValidIdempotencyKey(w.Once) {
					t.Errorf("%s: asked for %s", name, call)
				}
			}
		}
	})
}

// FuzzFirstState: whatever a history contains, each consumer makes a first state from it that is
// valid JSON and small enough to send.
func FuzzFirstState(f *testing.F) {
	for _, seed := range []string{
		`{"type":"status_update","status":"running","progress":1e308}`, `{"type":"status_update","status":7}`, `{"type":"step_update","step":{},"step_number":-1}`,
		`{"type":"crew_execution_update","messages":[{"id":1},7,null,[]],"human_input_request":{}}`, `{"type":"execution_update","execution_id":7,"stage":[]}`,
		`{"type":"human_input_request","execution_id":"e1"}`, `{"type":"task_complete","execution_id":"e1"}`, `{"type":"audit.update","data":{"percent_complete":"x"}}`,
		`{"type":"agent_step","execution_id":41}`, `{"type":"job_update","data":{"job_id":41}}`, `{"type":"audit.error","data":{"error":{}}}`,
		`{"type":"audit.complete","data":null}`, `{"type":"optimization_update","job_id":"j1"} `, `{"type":"crawl_update"}`, `{"type":"task_failed","code":{}}`,
	} {
		f.Add(seed, seed, true)
	}
	groups := []string{
		"chat_" + conversationQuery, "research_7", "metatags_task_7", "crew_execution_7", "audit_7", "crew_7_kanban", "optimization_7", "crawl_7",
	}
	f.Fuzz(func(t *testing.T, one, two string, positions bool) {
		for name, fn := range jobConsumers(new(consumertest.Services)) {
			c := consumertest.New(t, "acme", "ada")
			c.Params, c.Request = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}
			if positions {
				c.Speaks = consumer.ProtocolV1
			}
			for _, name := range groups {
				g, err := event.NewGroup(c.Who.Organization, name)
				if err != nil {
					t.Fatal(err)
				}
				for _, fields := range []string{one, two, one} {
					payload, err := event.WithOrganization(g.Organization(), []byte(fields))
					if err != nil {
						return
					}
					e, err := event.Decode(g, "1700000000000-1 "+string(payload), event.DefaultMaxSize, time.Time{})
					if err != nil {
						return
					}
					c.History[name] = append(c.History[name], e)
				}
			}
			if err := fn().Connect(c.Context(t.Context()), c); err != nil {
				t.Fatalf("%s: Connect: %v", name, err)
			}
			sent := c.Sent()
			for _, frame := range sent {
				var object struct {
					Type  string
					Event struct{ Type string }
				}
				if err := json.Unmarshal([]byte(frame), &object); err != nil || (object.Type == "") == (object.Event.Type == "") {
					t.Errorf("%s: got %s, want an object or an event with a type", name, frame)
				}
			}
			if len(sent) == 0 {
				t.Errorf("%s: no first frame", name)
			}
		}
	})
}

// FuzzParseInputKey: a parsed key is a result of InputKey.
func FuzzParseInputKey(f *testing.F) {
	for _, seed := range []string{"e1:0", "e1:01", "e1:-1", "e1:+1", "e1", ":1", "e1:1:1", "é:1", "orgcast:{acme}:ask:e1:0", "e1:99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		execution, taskIndex, ok := consumer.ParseInputKey(key)
		if ok && (consumer.InputKey(execution, taskIndex) != key || !orgctx.ValidID(execution) || taskIndex < 0) {
			t.Errorf("%q: got %q, %d", key, execution, taskIndex)
		}
		if !ok && (execution != "" || taskIndex != 0) {
			t.Errorf("%q: got %q, %d of no key", key, execution, taskIndex)
		}
	})
}

// FuzzMatch: a served path is spelled as its route, and a parameter is a single name.
func FuzzMatch(f *testing.F) {
	for _, seed := range []string{"/ws/events", "/ws%2fevents", "/ws/number/7", "/ws/id/a-b", "/ws/any/x%20y", "/ws/any/%2e%2e", "/ws/any/%C3%BC", "//ws/events", "/ws/any/%"} {
		f.Add(seed)
	}
	routes := namedRoutes(f)
	f.Fuzz(func(t *testing.T, path string) {
		route, params, ok := routes.Match(path)
		if !ok {
			return
		}
		spelled := map[string]string{
			"/ws/events":         "/ws/events",
			"/ws/number/{n:int}": "/ws/number/" + params.Get("n"),
			"/ws/id/{id:id}":     "/ws/id/" + params.Get("id"),
		}[route.Pattern]
		if route.Pattern != "/ws/any/{what}" {
			if spelled != path {
				t.Errorf("%q: got %s with %v", path, route.Pattern, params)
			}
			return
		}
		what := params.Get("what")
		if u, err := url.PathUnescape(path); err != nil || u != "/ws/any/"+what || !utf8.ValidString(what) || what == "." || what == ".." || what == "" {
			t.Errorf("%q: got %q", path, what)
		}
		if strings.Contains(what, "/") || strings.Contains(what, "\\") && !strings.Contains(path, "\\") {
			t.Errorf("%q: got %q", path, what)
		}
	})
}
