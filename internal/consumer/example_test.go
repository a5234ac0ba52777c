package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// Report shows how a report grows: /ws/report/{id:int}/.
type Report struct {
	consumer.Quiet // nothing to do in Disconnect
	Store          ReportStore
}

// ReportStore finds reports of the organization in ctx and no others.
type ReportStore interface {
	Percent(ctx context.Context, id string) (int, error)
}

type reportState struct {
	Type    string `json:"type"` // "initial_state"
	Percent int    `json:"percent"`
}

// Connect joins first and reads then, so that no change falls in between.
func (r Report) Connect(ctx context.Context, c consumer.Conn) error {
	if err := c.Join(ctx, "report_"+c.Param("id")); err != nil {
		return err
	}
	return r.sendState(ctx, c)
}

// ReceiveMessage answers get_state. Everything else is an unknown type.
func (r Report) ReceiveMessage(ctx context.Context, c consumer.Conn, m event.Message) error {
	if m.Type != "get_state" {
		return consumer.ErrUnknownType
	}
	return r.sendState(ctx, c)
}

// HandleEvent keeps internal events from browsers.
func (Report) HandleEvent(_ context.Context, _ consumer.Conn, e *event.Event) (forward bool) {
	return e.Type() != "report_audit"
}

func (r Report) sendState(ctx context.Context, c consumer.Conn) error {
	percent, err := r.Store.Percent(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	return c.Send(reportState{Type: "initial_state", Percent: percent})
}

var (
	_ consumer.MessageHandler = Report{}
	_ consumer.EventHandler   = Report{}
)

// reports is a ReportStore: organization, then report, then percent.
type reports map[string]map[string]int

func (s reports) Percent(ctx context.Context, id string) (int, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return 0, orgctx.ErrNoOrganization
	}
	percent, ok := s[org.String()][id]
	if !ok {
		return 0, consumer.ErrNotFound
	}
	return percent, nil
}

// printingConn is a connection of one user to one report that prints what it is told to do.
type printingConn struct {
	consumer.Conn // nil: whatever else a consumer calls fails the example

	out io.Writer
	who session.Identity
	id  string
}

func (c printingConn) Param(string) string        { return c.id }
func (c printingConn) Identity() session.Identity { return c.who }

func (c printingConn) Join(_ context.Context, name string) error {
	g, err := event.NewGroup(c.who.Organization, name)
	fmt.Fprintln(c.out, "join", g)
	return err
}

func (c printingConn) Send(v any) error {
	b, err := json.Marshal(v)
	fmt.Fprintln(c.out, "send", string(b))
	return err
}

// A consumer of JSON messages: two organizations ask for report 7, and only one of them has it.
func Example() {
	report := Report{Store: reports{"acme": {"7": 40}}}
	routes := new(consumer.Registry)
	err := routes.Add(consumer.Route{
		Pattern: "/ws/report/{id:int}/",
		New:     func() consumer.OrganizationAwareConsumer { return consumer.JSON(report) },
	})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}

	for _, name := range []string{"acme", "globex"} {
		org, _ := orgctx.ParseID(name)
		ctx := orgctx.With(context.Background(), org) // as the gateway does
		route, params, _ := routes.Match("/ws/report/7/")
		c := printingConn{out: os.Stdout, who: session.Identity{UserID: "ada", Organization: org}, id: params.Get("id")}
		r := route.New()
		if err := r.Connect(ctx, c); err != nil {
			fmt.Fprintln(os.Stdout, name, "is refused as not found:", errors.Is(err, consumer.ErrNotFound))
			continue
		}
		_ = r.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"get_state"}`)})
		_ = r.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"delete"}`)})
	}
	// Output:
	// join acme/report_7
	// send {"type":"initial_state","percent":40}
	// send {"type":"initial_state","percent":40}
	// send {"type":"error","code":"unknown_type","message":"Unknown message type."}
	// join globex/report_7
	// globex is refused as not found: true
}
