package hook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
	"orgcast/internal/hook"
	"orgcast/internal/outgoing"
	"orgcast/internal/routefile"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// program is a hook and the route that it decides for.
type program struct {
	services *consumertest.Services
	route    consumer.Route
	hook     *hook.Hook
}

func start(tb testing.TB, timeout time.Duration, h http.HandlerFunc) *program {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	client := outgoing.New(outgoing.Options{Registerer: prometheus.NewRegistry()})
	tb.Cleanup(client.Close)
	endpoint, err := client.Endpoint(outgoing.EndpointOptions{Purpose: "hook", URL: s.URL, Timeout: timeout})
	if err != nil {
		tb.Fatal(err)
	}
	routes, err := routefile.Parse([]byte(`
version: 1
routes:
  - path: /ws/report/{id:int}/{name}
    who: member
    groups: ["report_{id}"]
    receive: {declared: {task: declared}}
    hook: {url: "http://h/", key-file: k, on: [connect, receive, disconnect]}
`))
	if err != nil {
		tb.Fatal(err)
	}
	services := new(consumertest.Services)
	p := &program{services: services, hook: hook.New(hook.Options{Path: "/ws/report/", Endpoint: endpoint, On: routes[0].Hook.On, Log: zap.NewNop()})}
	routes[0].Declaration.Hook = p.hook
	p.route = routes[0].Route(consumer.DeclaredServices{Dispatcher: services, Inputs: services, Owners: services, Requests: services})
	return p
}

func (p *program) conn(tb testing.TB, org, user string) *consumertest.Conn {
	tb.Helper()
	c := consumertest.New(tb, org, user)
	c.Params, c.Who.Role = map[string]string{"id": "7", "name": "a b"}, "editor"
	return c
}

// answering answers connect with one text and all else with another.
func answering(connect, receive string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Event string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		text := receive
		if q.Event == consumer.HookConnect {
			text = connect
		}
		_, _ = io.WriteString(w, text)
	}
}

// TestQuestion: a hook is told who asks for what, and nothing of cookies.
func TestQuestion(t *testing.T) {
	questions := make(chan string, 2) // as many as are asked
	p := start(t, testkit.Patience, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		questions <- string(b)
		_, _ = io.WriteString(w, `{}`)
	})
	c := p.conn(t, "acme", "ada")
	c.Request = map[string][]string{"q": {"1", "2"}}
	ctx := c.Context(t.Context())
	cons := p.route.New()
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"say","organization_id":"globex","n":41}`)}); err != nil {
		t.Fatal(err)
	}
	head := `"organization_id":"acme","user_id":"ada","role":"editor","connection_id":"connection","path":"/ws/report/7/a%20b","params":{"id":7,"name":"a b"},"query":{"q":["1","2"]},"message":`
	if got, want := <-questions, `{"event":"connect",`+head+`null}`; got != want {
		t.Errorf("connect: got\n%s\nwant\n%s", got, want)
	}
	if got, want := <-questions, `{"event":"receive",`+head+`{"type":"say","organization_id":"globex","n":41}}`; got != want {
		t.Errorf("receive: got\n%s\nwant\n%s", got, want)
	}
	cons.Disconnect(ctx, c, consumer.ErrDone)
	calls := strings.Join(p.services.Calls(), "\n")
	if !strings.Contains(calls, `"dispatch":"orgcast_hook"`) || !strings.Contains(calls, `"event":"disconnect"`) || strings.Contains(calls, "globex") {
		t.Errorf("disconnect: %s", calls)
	}
}

// TestAnswer: a hook decides about groups, frames, work and the end of a connection.
func TestAnswer(t *testing.T) {
	p := start(t, testkit.Patience, answering(
		`{"groups":["report_7","all"],"send":[{"type":"hello","n":1.50}]}`,
		`{"send":[{"type":"a","organization_id":"acme"}],"task":{"kind":"export","id":"x1","key":"k1","group":"exports","payload":{"n":41}},"groups":["late"],"close":"done"}`))
	c := p.conn(t, "acme", "ada")
	ctx, cons := c.Context(t.Context()), p.route.New()
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	if got := c.Joined(); !slices.Equal(got, []string{"report_7", "all"}) {
		t.Errorf("joined %q", got)
	}
	if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"export"}`)}); !errors.Is(err, consumer.ErrDone) {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(c.Sent(), " "); got != `{"type":"hello","n":1.50} {"type":"a","organization_id":"acme"}` {
		t.Errorf("sent %s", got)
	}
	want := `{"dispatch":"export","group":"exports","id":"x1","once":"k1","payload":{"n":41,"role":"editor"},"user":"ada"}`
	if got := strings.Join(p.services.Calls(), " "); got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	if got := c.Joined(); slices.Contains(got, "late") {
		t.Error("groups of an answer to a message were joined")
	}
}

// lies are answers of which nothing may be done.
func lies() map[string]string {
	return map[string]string{
		"nothing":                               ``,
		"not JSON":                              `{"groups":["a"]`,
		"a list":                                `[]`,
		"null":                                  `null`,
		"two objects":                           `{} {}`,
		"an unknown field":                      `{"organization_id":"globex"}`,
		"a field in capitals":                   `{"Groups":["a"]}`,
		"a field twice":                         `{"groups":["a"],"groups":["b"]}`,
		"not UTF-8":                             "{\"groups\":[\"a\xff\"]}",
		"a group of another organization":       `{"groups":["globex:report_7"]}`,
		"a group by its channel":                `{"groups":["orgcast:{globex}:group:report_7"]}`,
		"a group with a slash":                  `{"groups":["globex/report_7"]}`,
		"groups that are objects":               `{"groups":[{"organization_id":"globex","name":"a"}]}`,
		"groups that are text":                  `{"groups":"a"}`,
		"another user's group":                  `{"groups":["user.eve"]}`,
		"another connection's answers":          `{"groups":["reply_x"]}`,
		"a frame of another organization":       `{"send":[{"type":"a","organization_id":"globex"}]}`,
		"a frame of an organization, escaped":   `{"send":[{"type":"a","organization\u005fid":"globex"}]}`,
		"a frame of two organizations":          `{"send":[{"type":"a","organization_id":"acme","organization_id":"globex"}]}`,
		"a frame of a list of organizations":    `{"send":[{"type":"a","organization_id":["acme"]}]}`,
		"a control frame":                       `{"send":[{"type":"welcome","organization_id":"acme"}]}`,
		"an escaped control frame":              `{"send":[{"type":"w\u0065lcome"}]}`,
		"an error frame":                        `{"send":[{"type":"error","code":"x"}]}`,
		"an event in its envelope":              `{"send":[{"type":"a","event":{"type":"b","organization_id":"globex"},"group":"x"}]}`,
		"a frame without a type":                `{"send":[{"a":1}]}`,
		"a frame that is text":                  `{"send":["a"]}`,
		"a good frame and a bad one":            `{"send":[{"type":"a"},{"type":"gap"}]}`,
		"a task without a kind":                 `{"task":{"id":"a"}}`,
		"a task of another organization":        `{"task":{"kind":"a","organization_id":"globex"}}`,
		"a task of another user":                `{"task":{"kind":"a","user_id":"eve"}}`,
		"a task of another role":                `{"task":{"kind":"a","role":"admin"}}`,
		"a kind of another organization":        `{"task":{"kind":"globex:a"}}`,
		"a kind of the gateway":                 `{"task":{"kind":"orgcast_hook"}}`,
		"a task for another organization":       `{"task":{"kind":"a","group":"{globex}"}}`,
		"a task for another user":               `{"task":{"kind":"a","group":"user.eve"}}`,
		"a task for another connection":         `{"task":{"kind":"a","group":"reply_x"}}`,
		"a key of another organization":         `{"task":{"kind":"a","key":"{globex}:a"}}`,
		"an id of another organization":         `{"task":{"kind":"a","id":"globex/a"}}`,
		"a payload of another organization":     `{"task":{"kind":"a","payload":{"organization_id":"globex"}}}`,
		"a payload of another user":             `{"task":{"kind":"a","payload":{"user_id":"eve"}}}`,
		"a payload of another role":             `{"task":{"kind":"a","payload":{"role":"admin"}}}`,
		"a payload that is a list":              `{"task":{"kind":"a","payload":[1]}}`,
		"another close":                         `{"close":"reload"}`,
		"a close that is a number":              `{"close":1000}`,
		"a good frame and an unknown field":     `{"send":[{"type":"a"}],"x":1}`,
		"too many groups":                       `{"groups":[` + strings.Repeat(`"a",`, 200) + `"a"]}`,
		"an answer that is nested deep":         strings.Repeat(`{"send":[`, 20_000),
		"an answer that is longer than allowed": `{"send":[{"type":"a","text":"` + strings.Repeat("x", outgoing.DefaultMaxAnswer) + `"}]}`,
	}
}

// TestLyingHook: of an answer that claims what it may not, nothing at all is done: a connection is
// refused as unavailable, a message is answered so, and the connection stays.
func TestLyingHook(t *testing.T) {
	for name, lie := range lies() {
		t.Run(name, func(t *testing.T) {
			p := start(t, testkit.Patience, answering(lie, lie))
			c := p.conn(t, "acme", "ada")
			if err := p.route.New().Connect(c.Context(t.Context()), c); !errors.Is(err, consumer.ErrUnavailable) {
				t.Errorf("connect: got %v, want %v", err, consumer.ErrUnavailable)
			}
			if joined, sent := c.Joined(), c.Sent(); len(joined)+len(sent) > 0 {
				t.Errorf("connect: joined %q, sent %q", joined, sent)
			}
			p = start(t, testkit.Patience, answering(`{}`, lie))
			c = p.conn(t, "acme", "ada")
			ctx, cons := c.Context(t.Context()), p.route.New()
			if err := cons.Connect(ctx, c); err != nil {
				t.Fatal(err)
			}
			before := c.Joined()
			err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"say","request_id":"r1"}`)})
			got := strings.Join(c.Sent(), " ")
			if strings.HasPrefix(lie, `{"groups":["user.`) || strings.HasPrefix(lie, `{"groups":["reply_`) {
				before = c.Joined() // groups do not count here, whatever they are
			}
			want := `{"type":"error","code":"unavailable","message":"Temporarily unavailable. Try again later.","request_id":"r1"}`
			if err != nil || got != want || !slices.Equal(before, c.Joined()) || len(p.services.Calls()) > 0 {
				t.Errorf("receive: got %v, sent %s, joined %q", err, got, c.Joined())
			}
		})
	}
}

// TestRefusal: statuses 403 and 404 refuse; any other is a failure.
func TestRefusal(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusForbidden: consumer.ErrForbidden, http.StatusNotFound: consumer.ErrNotFound, http.StatusNoContent: consumer.ErrUnavailable,
		http.StatusCreated: consumer.ErrUnavailable, http.StatusFound: consumer.ErrUnavailable, http.StatusUnauthorized: consumer.ErrUnavailable,
		http.StatusInternalServerError: consumer.ErrUnavailable,
	} {
		p := start(t, testkit.Patience, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		c := p.conn(t, "acme", "ada")
		if err := p.route.New().Connect(c.Context(t.Context()), c); !errors.Is(err, want) {
			t.Errorf("%d: got %v, want %v", status, err, want)
		}
	}
}

// TestSlowHook: one that does not answer in time, and one that never stops, refuse nobody for ever.
func TestSlowHook(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"slow": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
			}
		},
	} {
		p := start(t, 50*time.Millisecond, h)
		c := p.conn(t, "acme", "ada")
		if err := p.route.New().Connect(c.Context(t.Context()), c); !errors.Is(err, consumer.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", name, err, consumer.ErrUnavailable)
		}
	}
}

// TestAnswerAfterTheEnd: what a hook answers when the connection has ended is not done.
func TestAnswerAfterTheEnd(t *testing.T) {
	var end context.CancelCauseFunc
	left := errors.New("left")
	p := start(t, testkit.Patience, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), `"receive"`) {
			end(left)
		}
		_, _ = io.WriteString(w, `{"groups":["all"],"send":[{"type":"a"}],"task":{"kind":"export"}}`)
	})
	c := p.conn(t, "acme", "ada")
	ctx, cancel := context.WithCancelCause(c.Context(t.Context()))
	end = cancel
	cons := p.route.New()
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	c.Sent()
	p.services.Calls()
	err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"say"}`)})
	if sent, calls := c.Sent(), p.services.Calls(); !errors.Is(err, left) || len(sent)+len(calls) > 0 {
		t.Errorf("got %v, sent %q, asked for %q", err, sent, calls)
	}
}

// TestDeadHook: a hook that is not there refuses at once after some tries, in one organization as
// in another, and what is declared goes on without it.
func TestDeadHook(t *testing.T) {
	var dead atomic.Bool
	p := start(t, testkit.Patience, func(w http.ResponseWriter, _ *http.Request) {
		if dead.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{}`)
	})
	c := p.conn(t, "acme", "ada")
	ctx, cons := c.Context(t.Context()), p.route.New()
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	dead.Store(true)
	for range 10 {
		if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"say"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if sent := c.Sent(); len(sent) != 10 || !strings.Contains(sent[9], `"unavailable"`) {
		t.Errorf("sent %q", sent)
	}
	if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"declared"}`)}); err != nil {
		t.Fatal(err)
	}
	if sent := c.Sent(); len(sent) != 1 || !strings.Contains(sent[0], "task_accepted") {
		t.Errorf("what is declared: %q", sent)
	}
}

// FuzzDecode: no answer crashes the decoder, and none that it accepts names what it may not.
func FuzzDecode(f *testing.F) {
	for _, lie := range lies() {
		if len(lie) < 10_000 {
			f.Add([]byte(lie))
		}
	}
	f.Add([]byte(`{"groups":["report_7"],"send":[{"type":"a","n":1}],"task":{"kind":"k","id":"i","key":"k","group":"g","payload":{}},"close":"done"}`))
	c := consumertest.New(f, "acme", "ada")
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := hook.Decode(c.Who.Organization, body)
		if err != nil {
			return
		}
		for _, name := range answer.Groups {
			if !event.ValidGroupName(name) {
				t.Errorf("group %q", name)
			}
		}
		for _, frame := range answer.Send {
			var fields struct {
				Type         string `json:"type"`
				Organization any    `json:"organization_id"`
			}
			if err := json.Unmarshal(frame, &fields); err == nil && consumer.IsControlType(fields.Type) {
				t.Errorf("control frame %s", frame)
			}
			if s, ok := fields.Organization.(string); ok && s != "acme" {
				t.Errorf("foreign frame %s", frame)
			}
		}
		if answer.Task != nil && strings.HasPrefix(answer.Task.Kind, "orgcast_") {
			t.Errorf("task of the kind %s", answer.Task.Kind)
		}
	})
}
