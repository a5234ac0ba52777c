package orgcast_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"orgcast"
)

// greeter greets, and joins everyone to the group all.
type greeter struct{ orgcast.Quiet }

func (greeter) Connect(ctx context.Context, c orgcast.Conn) error {
	if err := c.Join(ctx, "all"); err != nil {
		return err
	}
	return c.Send(map[string]string{"type": "greeting", "to": c.Identity().UserID})
}

func (greeter) ReceiveMessage(context.Context, orgcast.Conn, orgcast.Message) error {
	return orgcast.ErrUnknownType
}

// An extension is what main gives to [orgcast.Main].
func Example() {
	extension := orgcast.Extension{
		Routes: func(orgcast.Parts) []orgcast.Route {
			consumer := orgcast.JSON(greeter{}) // keeps no state, so one is enough for all connections
			return []orgcast.Route{{Pattern: "/ws/greet/", New: func() orgcast.OrganizationAwareConsumer { return consumer }}}
		},
		Kinds: func(orgcast.Parts) map[string]orgcast.Kind {
			return map[string]orgcast.Kind{"shout": {Run: func(_ context.Context, job *orgcast.Job) (any, error) {
				return map[string]any{"type": "shouted", "text": job.Payload}, nil
			}}}
		},
	}
	// orgcast.Main(extension)
	fmt.Println(extension.Routes(orgcast.Parts{})[0].Pattern, len(extension.Kinds(orgcast.Parts{})))
	// Output: /ws/greet/ 1
}

// page is a connection for tests: it has what the consumer calls.
type page struct {
	orgcast.Conn

	user string
}

func (p page) Identity() orgcast.Identity       { return orgcast.Identity{UserID: p.user} }
func (page) Join(context.Context, string) error { return nil }

func (page) Send(v any) error {
	return json.NewEncoder(os.Stdout).Encode(v)
}

// A test of a consumer needs a connection with the methods that it calls.
func ExampleJSON() {
	consumer := orgcast.JSON(greeter{})
	err := consumer.Connect(context.Background(), page{user: "ada"})
	fmt.Println(err)
	err = consumer.Receive(context.Background(), page{user: "ada"}, orgcast.RawMessage{Data: []byte(`{"type":"ping"}`)})
	fmt.Println(err)
	err = consumer.Receive(context.Background(), page{user: "ada"}, orgcast.RawMessage{Data: []byte(`{"type":"shutdown"}`)})
	fmt.Println(err)
	// Output:
	// {"to":"ada","type":"greeting"}
	// <nil>
	// {"type":"pong"}
	// <nil>
	// {"type":"error","code":"unknown_type","message":"Unknown message type."}
	// <nil>
}

// active is a directory of one organization.
type active string

func (a active) OrganizationActive(_ context.Context, id orgcast.ID) error {
	if id.String() != string(a) {
		return errors.New("not active")
	}
	return nil
}

// Background work names its organization once. Its context carries it from there on.
func ExampleDo() {
	for _, name := range []string{"acme", "globex"} {
		id, err := orgcast.ParseID(name)
		if err != nil {
			fmt.Println(err)
			continue
		}
		err = orgcast.Do(context.Background(), active("acme"), id, func(ctx context.Context) error {
			org, _ := orgcast.From(ctx)
			fmt.Println("runs for", org)
			return nil
		})
		fmt.Println(err)
	}
	// Output:
	// runs for acme
	// <nil>
	// organization globex: not active
}

// A server of your own says where the organization of a request stands. Here a proxy in front has put it into a header.
func ExampleMiddleware() {
	handler := orgcast.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		org, _ := orgcast.From(r.Context())
		fmt.Fprint(w, "hello ", org)
	}))
	server := orgcast.Middleware(func(r *http.Request) (orgcast.ID, bool) {
		id, err := orgcast.ParseID(r.Header.Get("X-Organization"))
		return id, err == nil
	})(handler)
	for _, header := range []string{"acme", "", "acme:admin"} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set("X-Organization", header)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 200 hello acme
	// 403 no organization
	//
	// 403 no organization
}

// A handler that cannot succeed says so with a code; after any other error, the task is tried again.
func ExampleFail() {
	err := orgcast.Fail("no_such_report")
	var failure *orgcast.FailError
	fmt.Println(errors.As(err, &failure), failure.Code)
	// Output: true no_such_report
}

// Nothing of an organization can be read without one.
func ExampleGet() {
	type report struct{ Title string }
	_, err := orgcast.Get[report](context.Background(), new(orgcast.Objects), "report", "7")
	fmt.Println(errors.Is(err, orgcast.ErrNoOrganization))
	// Output: true
}
