package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/routefile"
)

func declaredServices(s *consumertest.Services) consumer.DeclaredServices {
	return consumer.DeclaredServices{Dispatcher: s, Inputs: s, Owners: s, Requests: s}
}

// parseRoute returns a consumer of the only route in a file, given without the file's head.
func parseRoute(tb testing.TB, s *consumertest.Services, text string) consumer.OrganizationAwareConsumer {
	tb.Helper()
	routes, err := routefile.Parse([]byte("version: 1\nroutes:\n  - " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")))
	if err != nil {
		tb.Fatal(err)
	}
	return routes[0].Route(declaredServices(s)).New()
}

func reportRoute(tb testing.TB, s *consumertest.Services) consumer.OrganizationAwareConsumer {
	tb.Helper()
	routes, err := routefile.Load("testdata/report.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return routes[0].Route(declaredServices(s)).New()
}

// TestDeclaredConversations: a declared route answers as its table says, and shares what all
// consumers share.
func TestDeclaredConversations(t *testing.T) {
	for _, test := range readTable[conversation](t, "report") {
		t.Run(test.Name, func(t *testing.T) {
			services := new(consumertest.Services)
			test.run(t, services, reportRoute(t, services))
		})
	}
	t.Run("shared", func(t *testing.T) {
		services := new(consumertest.Services)
		cons, c := reportRoute(t, services), consumertest.New(t, "acme", "ada")
		c.Params = map[string]string{"id": "7"}
		ctx := c.Context(t.Context())
		if err := cons.Connect(ctx, c); err != nil {
			t.Fatal(err)
		}
		c.Sent()
		for _, x := range readTable[exchange](t, "shared") {
			if !slices.Contains(x.Except, "crawl") { // which does not take messages either
				x.run(ctx, t, c, services, cons)
			}
		}
	})
}

// TestDeclaredReplies: a worker's answer goes once to the connection that asked, as a frame of its
// own type.
func TestDeclaredReplies(t *testing.T) {
	services := new(consumertest.Services)
	cons := parseRoute(t, services, `
path: /ws/report/{id:int}/
who: member
groups: ["report_{id}"]
receive:
  cancel: {task: cancel, reply: cancelled}
  export: {task: export, reply: exported}
`)
	c := consumertest.New(t, "acme", "ada")
	c.Params = map[string]string{"id": "7"}
	ctx := c.Context(t.Context())
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, typ := range []string{"cancel", "export"} {
		if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(`{"type":"` + typ + `","request_id":"` + typ + `1"}`)}); err != nil {
			t.Fatal(err)
		}
		joined := c.Joined()
		groups = append(groups, joined[len(joined)-1])
	}
	c.Deliver(ctx, cons, c.Event(t, "report_7", `{"type":"task_complete"}`, 1))
	if got := c.Sent(); len(got) != 1 || !strings.Contains(got[0], "organization_id") {
		t.Errorf("an event of the report: got %q", got)
	}
	c.Deliver(ctx, cons, c.Event(t, groups[1], `{"type":"progress"}`, 2))
	c.Deliver(ctx, cons, c.Event(t, groups[1], `{"type":"task_complete","message":"done"}`, 3))
	c.Deliver(ctx, cons, c.Event(t, groups[1], `{"type":"task_complete","message":"again"}`, 4))
	c.Deliver(ctx, cons, c.Event(t, groups[0], `{"type":"task_failed","code":"timeout"}`, 5))
	got := strings.Join(c.Sent(), "\n")
	want := `{"type":"exported","success":true,"message":"done","request_id":"export1"}` + "\n" +
		`{"type":"cancelled","success":false,"message":"Something went wrong.","code":"timeout","request_id":"cancel1"}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if joined := c.Joined(); !slices.Equal(joined, []string{"report_7"}) {
		t.Errorf("stays in %q", joined)
	}
}

// TestDeclaredFirst: the first state of a connection.
func TestDeclaredFirst(t *testing.T) {
	for name, test := range map[string]struct {
		route string
		want  []string
	}{
		"none": {``, nil},
		"history, with the subprotocol": {`first: {history: 2}`, []string{
			`{"event":{"organization_id":"acme","type":"a","n":2},"group":"x_7","id":"1700000001000-0"}`,
			`{"event":{"organization_id":"acme","type":"b","n":3},"group":"x_7","id":"1700000002000-0"}`,
		}},
		"listed fields, with the subprotocol": {"first: last\nevents: {a: [n]}", []string{`{"type":"a","n":2}`}},
		"last":                                {`first: last`, []string{`{"organization_id":"acme","type":"b","n":3}`}},
		"history": {`first: {history: 2}`, []string{
			`{"organization_id":"acme","type":"a","n":2}`, `{"organization_id":"acme","type":"b","n":3}`,
		}},
		"the last of those that pass":   {"first: last\nevents: {a: [n]}", []string{`{"type":"a","n":2}`}},
		"history of those that pass":    {"first: {history: 9}\nevents: {a: [n]}", []string{`{"type":"a","n":1}`, `{"type":"a","n":2}`}},
		"fold of all":                   {`first: {fold: state}`, []string{`{"type":"state","m":1,"n":3}`}},
		"fold of those that pass":       {"first: {fold: state}\nevents: {a: [n]}", []string{`{"type":"state","n":2}`}},
		"nothing that passes":           {"first: last\nevents: {c: [n]}", nil},
		"a fold of nothing":             {"first: {fold: state}\nevents: {c: [n]}", nil},
		"a fold of nothing, with empty": {"first: {fold: state, empty: {n: \"{id}\", text: \"{id}.\"}}\nevents: {c: [n]}", []string{`{"type":"state","n":7,"text":"7."}`}},
	} {
		t.Run(name, func(t *testing.T) {
			cons := parseRoute(t, nil, "path: /ws/{id:int}/\nwho: member\ngroups: [\"x_{id}\"]\n"+test.route)
			c := consumertest.New(t, "acme", "ada")
			c.Params = map[string]string{"id": "7"}
			if strings.HasSuffix(name, "with the subprotocol") {
				c.Speaks = consumer.ProtocolV1
			}
			for i, fields := range []string{`{"type":"a","n":1,"m":1}`, `{"type":"a","n":2}`, `{"type":"b","n":3}`} {
				c.History["x_7"] = append(c.History["x_7"], c.Event(t, "x_7", fields, uint64(i+1)))
			}
			if err := cons.Connect(c.Context(t.Context()), c); err != nil {
				t.Fatal(err)
			}
			compare(t, "first", test.want, c.Sent())
			if !slices.Equal(c.Joined(), []string{"x_7"}) {
				t.Errorf("joined %q", c.Joined())
			}
		})
	}
}

// TestDeclaredWho: who may connect.
func TestDeclaredWho(t *testing.T) {
	for name, test := range map[string]struct {
		who, user, role, id string
		want                error
	}{
		"member":                  {"member", "ada", "", "7", nil},
		"role":                    {"role:admin", "ada", "admin", "7", nil},
		"another role":            {"role:admin", "ada", "administrator", "7", consumer.ErrForbidden},
		"no role":                 {"role:admin", "ada", "", "7", consumer.ErrForbidden},
		"self":                    {"self:{id}", "7", "", "7", nil},
		"somebody else":           {"self:{id}", "77", "", "7", consumer.ErrNotFound},
		"owner":                   {"owner:{id}", "ada", "", "7", nil},
		"second to the owner":     {"owner:{id}", "eve", "", "7", consumer.ErrNotFound},
		"first at something else": {"owner:{id}", "eve", "", "8", nil},
	} {
		t.Run(name, func(t *testing.T) {
			services := new(consumertest.Services)
			connect := func(org, user, role, id string) error {
				c := consumertest.New(t, org, user)
				c.Who.Role, c.Params = role, map[string]string{"id": id}
				cons := parseRoute(t, services, "path: /ws/{id:id}/\nwho: "+test.who+"\ngroups: [\"x_{id}\"]")
				err := cons.Connect(c.Context(t.Context()), c)
				if joined := c.Joined(); (err == nil) != (len(joined) == 1) {
					t.Errorf("joined %q with %v", joined, err)
				}
				return err
			}
			if strings.HasPrefix(test.who, "owner") {
				if err := connect("acme", "ada", "", "7"); err != nil {
					t.Fatal(err)
				}
			}
			if err := connect("acme", test.user, test.role, test.id); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if strings.HasPrefix(test.who, "owner") {
				if err := connect("globex", "eve", "", "7"); err != nil {
					t.Errorf("the first in another organization: %v", err)
				}
			}
		})
	}
}

// TestDeclaredGroupsOfOthers: no path parameter, whatever dots and braces it has, opens the group
// of another user, of another connection's answers, or of another object.
func TestDeclaredGroupsOfOthers(t *testing.T) {
	for _, group := range []string{"us{a}.{b}", "r{a}", "re{a}.{b}", "x_{a}", "{user_group}.{a}"} {
		for _, a := range []string{"er", "eply_x", "ply_y", "7.private", "{b}", "{organization_id}", "globex:group:x", "..", "", "7/8", "%2e", "ü"} {
			cons := parseRoute(t, nil, "path: /ws/{a:id}/{b:id}/\nwho: member\ngroups: [\""+group+"\"]")
			c := consumertest.New(t, "acme", "ada")
			c.Params = map[string]string{"a": a, "b": "eve"} // the registry refuses most of these
			err := cons.Connect(c.Context(t.Context()), c)
			for _, name := range c.Joined() {
				if strings.HasPrefix(name, "reply_") || strings.HasPrefix(name, "user.") && !event.IsUserGroupName(name, "ada") {
					t.Errorf("%s with %q: joined %s", group, a, name)
				}
			}
			if err != nil && !errors.Is(err, consumer.ErrNotFound) && !errors.Is(err, event.ErrInvalidGroup) {
				t.Errorf("%s with %q: %v", group, a, err)
			}
		}
	}
	var routes consumer.Registry
	for _, form := range []string{"id", "int"} {
		if err := routes.Add(consumer.Route{Pattern: "/ws/" + form + "/{a:" + form + "}/", New: func() consumer.OrganizationAwareConsumer { return nil }}); err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{"7.private", "{b}", "%7Bb%7D", "..", "%2e%2e", "7%2Eprivate", "7%00", "", "7 ", "07.0", "globex:7"} {
			if _, _, ok := routes.Match("/ws/" + form + "/" + a + "/"); ok {
				t.Errorf("the path takes %q for {a:%s}", a, form)
			}
		}
	}
}

// TestDeclaredTasksStayInOrganization: members of two organizations with the same ids send
// anything. They get work only for their own organization and user.
func TestDeclaredTasksStayInOrganization(t *testing.T) {
	var got []string
	for org, other := range map[string]string{"acme": "globex", "globex": "acme"} {
		services := &watched{Services: new(consumertest.Services), seen: func(ctx context.Context, w consumer.Work) {
			id, _ := orgctx.From(ctx)
			got = append(got, fmt.Sprintf("%s %s %s %s", id, w.User, w.Group, w.Payload))
		}}
		routes, err := routefile.Load("testdata/report.yaml")
		if err != nil {
			t.Fatal(err)
		}
		s := declaredServices(services.Services)
		s.Dispatcher = services
		cons := routes[0].Route(s).New()
		c := consumertest.New(t, org, "user-of-"+org)
		c.Who.Role, c.Params = "member-of-"+org, map[string]string{"id": "7"}
		ctx := c.Context(t.Context())
		if err := cons.Connect(ctx, c); err != nil {
			t.Fatal(err)
		}
		frame := strings.ReplaceAll(`{"type":"refresh","organization_id":"OTHER","organization":"OTHER","user_id":"user-of-OTHER","role":"member-of-OTHER",
			"group":"OTHER","id":"OTHER","kind":"OTHER","task":"OTHER","key":"OTHER","depth":"{organization_id}{id}"}`, "OTHER", other)
		if err := cons.Receive(ctx, c, event.RawMessage{Data: []byte(frame)}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(got)
	want := []string{
		`acme user-of-acme report_7 {"id":7,"depth":"{organization_id}{id}","note":"report 7","role":"member-of-acme"}`,
		`globex user-of-globex report_7 {"id":7,"depth":"{organization_id}{id}","note":"report 7","role":"member-of-globex"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// watched sees work before the services do.
type watched struct {
	*consumertest.Services

	seen func(ctx context.Context, w consumer.Work)
}

func (w *watched) Dispatch(ctx context.Context, work consumer.Work) (string, error) {
	w.seen(ctx, work)
	return w.Services.Dispatch(ctx, work)
}

// TestDeclaredRoutesDoNotOverlap: no path matches a declared route and another route.
func TestDeclaredRoutesDoNotOverlap(t *testing.T) {
	create := func() consumer.OrganizationAwareConsumer { return nil }
	for name, test := range map[string]struct {
		ours, declared []string
		good           bool
	}{
		"others":             {[]string{"/ws/a/{id:int}/"}, []string{"/ws/b/{id:int}/", "/ws/a/{id:int}", "/ws/a/x/"}, true},
		"one of ours":        {[]string{"/ws/a/{id:int}/"}, []string{"/ws/a/{id:int}/"}, false},
		"within one of ours": {[]string{"/ws/a/{id:int}/"}, []string{"/ws/a/7/"}, false},
		"around one of ours": {[]string{"/ws/a/7/"}, []string{"/ws/{a}/{b}/"}, false},
		"twice":              {nil, []string{"/ws/a/", "/ws/a/"}, false},
		"by two parameters":  {nil, []string{"/ws/{a}/b", "/ws/a/{b:id}"}, false},
		"not a number":       {nil, []string{"/ws/{a:int}/b", "/ws/a/b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var routes consumer.Registry
			for _, p := range test.ours {
				if err := routes.Add(consumer.Route{Pattern: p, New: create}); err != nil {
					t.Fatal(err)
				}
			}
			var declared []consumer.Route
			for _, p := range test.declared {
				declared = append(declared, consumer.Route{Pattern: p, New: create})
			}
			apply, err := routes.PrepareDeclared(declared)
			if (err == nil) != test.good {
				t.Fatalf("got %v", err)
			}
			if !test.good {
				return
			}
			apply()
			for _, p := range test.declared {
				path := strings.NewReplacer("{id:int}", "7", "{a:int}", "7").Replace(p)
				if r, _, ok := routes.Match(path); !ok || r.Pattern != p {
					t.Errorf("%s leads to %v", path, r)
				}
			}
			apply, err = routes.PrepareDeclared(nil)
			if err != nil {
				t.Fatal(err)
			}
			apply()
			if _, _, ok := routes.Match(test.declared[0]); ok {
				t.Error("a route stays that is not declared any more")
			}
		})
	}
}
