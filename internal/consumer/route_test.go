package consumer_test

import (
	"testing"

	"orgcast/internal/consumer"
)

// TestConsumersWithoutEventsStayWithout: a consumer that does not handle events must not become an
// event handler, because events of event handlers are written one by one.
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
