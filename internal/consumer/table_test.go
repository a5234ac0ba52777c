package consumer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
)

// jobConsumers are all consumers of jobs, boards and conversations, by the names of their tables.
func jobConsumers(s *consumertest.Services) map[string]func() consumer.OrganizationAwareConsumer {
	of := func(h consumer.MessageHandler) func() consumer.OrganizationAwareConsumer {
		return func() consumer.OrganizationAwareConsumer { return consumer.JSON(h) }
	}
	return map[string]func() consumer.OrganizationAwareConsumer{
		"connection_test": of(consumer.ConnectionTest{}),
		"chat":            of(consumer.Chat{Dispatcher: s, Recorder: s, Inputs: s, Owners: s}),
		"research":        of(consumer.Research{Dispatcher: s}),
		"meta_tags":       of(consumer.MetaTagsTask{}),
		"crew_execution":  of(consumer.CrewExecution{Inputs: s}),
		"seo_audit":       of(consumer.SEOAudit{}),
		"crew_kanban":     of(consumer.CrewKanban{Inputs: s}),
		"optimization":    func() consumer.OrganizationAwareConsumer { return consumer.JSON(new(consumer.Optimization)) },
		"crawl":           of(consumer.Crawl{}),
	}
}

// conversation is one test of a table: what was recorded, then what is said both ways.
type conversation struct {
	Name     string                       `json:"name,omitempty"`
	ID       string                       `json:"id,omitempty"` // in the path
	Query    string                       `json:"query,omitempty"`
	Protocol string                       `json:"protocol,omitempty"`
	History  map[string][]json.RawMessage `json:"history,omitempty"` // by group, oldest first, without the organisation
	Refused  string                       `json:"refused,omitempty"` // the error of Connect, if there is to be one
	First    []json.RawMessage            `json:"first,omitempty"`   // what Connect sends
	Joined   []string                     `json:"joined,omitempty"`  // after Connect
	Then     []exchange                   `json:"then,omitempty"`
}

// exchange is one frame of the browser or one live event, and what it leads to.
type exchange struct {
	From   json.RawMessage   `json:"from,omitempty"`  // a frame of the browser; a string stands for its raw text
	Fails  string            `json:"fails,omitempty"` // the error of the services, if any
	Event  json.RawMessage   `json:"event,omitempty"` // a live event
	Group  string            `json:"group,omitempty"` // of the event
	To     []json.RawMessage `json:"to,omitempty"`
	Asked  []json.RawMessage `json:"asked,omitempty"`  // of the services
	Joined []string          `json:"joined,omitempty"` // if it changes
}

// chance is what crypto/rand.Text makes, which tables show as CHANCE.
var chance = regexp.MustCompile(`[A-Z2-7]{26}`)

// normal makes JSON comparable.
func normal(tb testing.TB, text string) any {
	tb.Helper()
	d := json.NewDecoder(strings.NewReader(chance.ReplaceAllString(text, "CHANCE")))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return v
}

func compare[T, U ~string | ~[]byte](tb testing.TB, what string, want []T, got []U) {
	tb.Helper()
	var left, right []any
	for _, w := range want {
		left = append(left, normal(tb, string(w)))
	}
	for _, g := range got {
		right = append(right, normal(tb, string(g)))
	}
	if diff := cmp.Diff(left, right); diff != "" {
		tb.Errorf("%s: want (-), got (+):\n%s", what, diff)
	}
}

// failures are the errors that tables name.
func failures() map[string]error {
	return map[string]error{
		"too_many_tasks": consumer.ErrTooManyTasks, "input_closed": consumer.ErrInputClosed, "input_taken": consumer.ErrInputTaken,
		"other": errors.New("dial tcp 10.1.2.3:6379: connection refused"), "not_found": consumer.ErrNotFound,
	}
}

// TestConversations: each consumer says what its table in testdata says.
func TestConversations(t *testing.T) {
	for name := range jobConsumers(nil) {
		path := filepath.Join("testdata", name+".json")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		var table []conversation
		if err := d.Decode(&table); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, test := range table {
			t.Run(name+"/"+test.Name, func(t *testing.T) {
				services := new(consumertest.Services)
				test.run(t, services, jobConsumers(services)[name]())
			})
		}
	}
}

func (test *conversation) run(t *testing.T, services *consumertest.Services, cons consumer.OrganizationAwareConsumer) {
	t.Helper()
	c := consumertest.New(t, "acme", "ada")
	ctx := c.Context(t.Context())
	c.Params, c.Speaks = map[string]string{"id": test.ID}, test.Protocol
	c.Request, _ = url.ParseQuery(test.Query)
	for group, events := range test.History {
		for i, fields := range events {
			c.History[group] = append(c.History[group], c.Event(t, group, string(fields), uint64(i+1)))
		}
	}
	err := cons.Connect(ctx, c)
	if want := failures()[test.Refused]; !errors.Is(err, want) {
		t.Fatalf("Connect: got %v, want %v", err, want)
	}
	compare(t, "first", test.First, c.Sent())
	if diff := cmp.Diff(test.Joined, c.Joined()); diff != "" {
		t.Errorf("joined: want (-), got (+):\n%s", diff)
	}
	for _, x := range test.Then {
		services.Err = failures()[x.Fails]
		what := string(x.From)
		if x.Event != nil {
			what = string(x.Event)
			c.Deliver(ctx, cons, c.Event(t, x.Group, what, 1000))
		} else {
			frame := event.Frame{Data: x.From}
			var text string
			if json.Unmarshal(x.From, &text) == nil {
				frame.Data = []byte(text)
			}
			if err := cons.Receive(ctx, c, frame); err != nil {
				t.Errorf("%s: got %v, want nil", what, err)
			}
		}
		compare(t, "answer to "+what, x.To, c.Sent())
		compare(t, "asked by "+what, x.Asked, services.Calls())
		if x.Joined != nil {
			if diff := cmp.Diff(x.Joined, c.Joined()); diff != "" {
				t.Errorf("joined by %s: want (-), got (+):\n%s", what, diff)
			}
		}
	}
	if err := c.Ended(); err != nil {
		t.Errorf("the consumer ended the connection: %v", err)
	}
	cons.Disconnect(ctx, c, nil)
}
