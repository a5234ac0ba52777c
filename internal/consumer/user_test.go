package consumer_test

import (
	"context"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/consumer/consumertest"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// who notes whom each hook runs as.
type who struct {
	consumer.Quiet

	seen map[string]orgctx.User
}

func (w who) note(ctx context.Context, hook string) {
	w.seen[hook], _ = orgctx.UserFrom(ctx)
}

func (w who) Connect(ctx context.Context, c consumer.Conn) error {
	w.note(ctx, "Connect")
	return c.Join(ctx, "room")
}

func (w who) ReceiveMessage(ctx context.Context, _ consumer.Conn, _ event.Message) error {
	w.note(ctx, "Receive")
	return nil
}

func (w who) HandleEvent(ctx context.Context, _ consumer.Conn, _ *event.Event) bool {
	w.note(ctx, "HandleEvent")
	return true
}

func (w who) Disconnect(ctx context.Context, _ consumer.Conn, _ error) { w.note(ctx, "Disconnect") }

// TestEachHookHasTheCurrentUser: whatever consumer serves a connection, its hooks run as the
// connection's user, and not as whoever the context carried before.
func TestEachHookHasTheCurrentUser(t *testing.T) {
	seen := make(map[string]orgctx.User)
	var routes consumer.Registry
	err := routes.Add(consumer.Route{Pattern: "/ws", New: func() consumer.OrganizationAwareConsumer { return consumer.JSON(who{seen: seen}) }})
	if err != nil {
		t.Fatal(err)
	}
	route, _, _ := routes.Match("/ws")
	cons := route.New()
	c := consumertest.New(t, "acme", "ada")
	ctx := orgctx.WithUser(orgctx.With(t.Context(), c.Who.Organization), "grace")
	if err := cons.Connect(ctx, c); err != nil {
		t.Fatal(err)
	}
	say(ctx, t, c, cons, `{"type":"x"}`)
	c.Deliver(ctx, cons, c.Event(t, "room", `{"type":"x"}`, 1))
	cons.Disconnect(ctx, c, nil)
	for _, hook := range []string{"Connect", "Receive", "HandleEvent", "Disconnect"} {
		if seen[hook] != "ada" {
			t.Errorf("%s: got user %q, want ada", hook, seen[hook])
		}
	}
}

// TestConsumersWithoutEventsStayWithout: a consumer that does not look at events does not begin to,
// since events of those that do are written one by one.
func TestConsumersWithoutEventsStayWithout(t *testing.T) {
	var routes consumer.Registry
	err := routes.Add(consumer.Route{Pattern: "/ws", New: func() consumer.OrganizationAwareConsumer { return consumer.JSON(consumer.Crawl{}) }})
	if err != nil {
		t.Fatal(err)
	}
	route, _, _ := routes.Match("/ws")
	if _, ok := route.New().(consumer.EventHandler); ok {
		t.Error("got an EventHandler, want none")
	}
}
