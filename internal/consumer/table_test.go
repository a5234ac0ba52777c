package consumer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
		"chat": func() consumer.OrganizationAwareConsumer {
			return consumer.JSON(&consumer.Chat{Dispatcher: s, Recorder: s, Inputs: s, Owners: s, Requests: s})
		},
		"research":       of(consumer.Research{Dispatcher: s, Requests: s}),
		"meta_tags":      of(consumer.MetaTagsTask{}),
		"crew_execution": of(consumer.CrewExecution{Inputs: s, Requests: s}),
		"seo_audit":      of(consumer.SEOAudit{}),
		"crew_kanban": func() consumer.OrganizationAwareConsumer {
			return consumer.JSON(&consumer.CrewKanban{Inputs: s, Requests: s})
		},
		"optimization": func() consumer.OrganizationAwareConsumer { return consumer.JSON(new(consumer.Optimization)) },
		"crawl":        of(consumer.Crawl{}),
	}
}

// conversation is one test of a table: recorded events, then frames in both directions.
type conversation struct {
	Name     string                       `json:"name,omitempty"`
	ID       string                       `json:"id,omitempty"` // in the path
	Query    string                       `json:"query,omitempty"`
	Protocol string                       `json:"protocol,omitempty"`
	History  map[string][]json.RawMessage `json:"history,omitempty"` // by group, oldest first, without the organization
	Refused  string                       `json:"refused,omitempty"` // the error of Connect, if expected
	First    []json.RawMessage            `json:"first,omitempty"`   // what Connect sends
	Joined   []string                     `json:"joined,omitempty"`  // after Connect
	Then     []exchange                   `json:"then,omitempty"`
}

// exchange is one frame of the browser or one live event, and its effects.
type exchange struct {
	From   json.RawMessage   `json:"from,omitempty"`   // a frame of the browser; a string stands for its raw text
	Fails  string            `json:"fails,omitempty"`  // the error of the services, if any
	Refuse string            `json:"refuse,omitempty"` // the error of the dispatcher alone, if any
	Event  json.RawMessage   `json:"event,omitempty"`  // a live event
	Group  string            `json:"group,omitempty"`  // of the event
	To     []json.RawMessage `json:"to,omitempty"`
	Asked  []json.RawMessage `json:"asked,omitempty"`  // calls of the services
	Joined []string          `json:"joined,omitempty"` // if it changes
	Binary bool              `json:"binary,omitempty"` // the frame of the browser
	Ends   string            `json:"ends,omitempty"`   // the error that ends the connection, if any
	Except []string          `json:"except,omitempty"` // in shared.json: consumers that answer otherwise, as in their tables
}

// chance matches results of crypto/rand.Text, which tables show as CHANCE.
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

// failures returns the errors that tables name.
func failures() map[string]error {
	return map[string]error{
		"too_many_tasks": consumer.ErrTooManyTasks, "input_closed": consumer.ErrInputClosed, "input_taken": consumer.ErrInputTaken,
		"other": errors.New("dial tcp 10.1.2.3:6379: connection refused"), "not_found": consumer.ErrNotFound, "text_required": consumer.ErrTextRequired,
	}
}

// readTable reads a file of testdata.
func readTable[T any](tb testing.TB, name string) []T {
	tb.Helper()
	path := filepath.Join("testdata", name+".json")
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var table []T
	if err := d.Decode(&table); err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return table
}

// TestConversations: each consumer behaves as its table in testdata says.
func TestConversations(t *testing.T) {
	for name := range jobConsumers(nil) {
		for _, test := range readTable[conversation](t, name) {
			t.Run(name+"/"+test.Name, func(t *testing.T) {
				services := new(consumertest.Services)
				test.run(t, services, jobConsumers(services)[name]())
			})
		}
	}
}

// TestWhatAllShare: pings, and errors that all consumers share, get the same answer from every
// consumer, as shared.json says.
func TestWhatAllShare(t *testing.T) {
	shared := readTable[exchange](t, "shared")
	for name := range jobConsumers(nil) {
		t.Run(name, func(t *testing.T) {
			services := new(consumertest.Services)
			cons := jobConsumers(services)[name]()
			c := consumertest.New(t, "acme", "ada")
			c.Params, c.Request = map[string]string{"id": "7"}, url.Values{"session": {conversationQuery}}
			ctx := c.Context(t.Context())
			if err := cons.Connect(ctx, c); err != nil {
				t.Fatal(err)
			}
			c.Sent() // the first frames are tested by its table
			for _, x := range shared {
				if !slices.Contains(x.Except, name) {
					x.run(ctx, t, c, services, cons)
				}
			}
		})
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
		x.run(ctx, t, c, services, cons)
	}
	if err := c.Ended(); err != nil {
		t.Errorf("the consumer ended the connection: %v", err)
	}
	cons.Disconnect(ctx, c, nil)
}

func (x *exchange) run(ctx context.Context, t *testing.T, c *consumertest.Conn, services *consumertest.Services, cons consumer.OrganizationAwareConsumer) {
	t.Helper()
	services.Err, services.DispatchErr = failures()[x.Fails], failures()[x.Refuse]
	what := string(x.From)
	if x.Event != nil {
		what = string(x.Event)
		c.Deliver(ctx, cons, c.Event(t, x.Group, what, 1000))
	} else {
		frame := event.RawMessage{Binary: x.Binary, Data: x.From}
		var text string
		if json.Unmarshal(x.From, &text) == nil {
			frame.Data = []byte(text)
		}
		if err := cons.Receive(ctx, c, frame); !errors.Is(err, failures()[x.Ends]) {
			t.Errorf("%s: got %v, want %v", what, err, failures()[x.Ends])
		}
	}
	compare(t, "answer to "+what, x.To, c.Sent())
	compare(t, "asked by "+what, x.Asked, services.Calls())
	if x.Joined != nil {
		joined := strings.Fields(chance.ReplaceAllString(strings.Join(c.Joined(), " "), "CHANCE"))
		if diff := cmp.Diff(x.Joined, joined); diff != "" {
			t.Errorf("joined by %s: want (-), got (+):\n%s", what, diff)
		}
	}
}
