package pubsub_test

import (
	"context"
	"fmt"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
)

// printer is a Sink that prints.
type printer struct{ printed chan struct{} }

func (p printer) Gap(g event.Group) { fmt.Println("gap in", g) }

func (p printer) Deliver(e *event.Event) {
	fmt.Println(e, string(e.Payload()))
	close(p.printed)
}

func ExampleMemory() {
	ctx, cancel := context.WithCancel(context.Background())
	org, _ := orgctx.ParseID("acme")
	room, _ := event.NewGroup(org, "room")
	bus, sink := pubsub.NewMemory(), printer{printed: make(chan struct{})}
	ended := make(chan error)
	go func() { ended <- bus.Run(ctx, sink) }()

	if err := bus.Subscribe(ctx, room); err != nil {
		fmt.Println(err)
	}
	fmt.Println(bus.Publish(ctx, room, []byte(`{"type":"hello","organization_id":"rival"}`)))
	fmt.Println(bus.Publish(ctx, room, []byte(`{"type":"hello","organization_id":"acme"}`)))
	<-sink.printed
	cancel()
	fmt.Println(<-ended)
	// Unordered output:
	// event: organization_id differs from the organization of its channel
	// <nil>
	// hello to acme/room {"type":"hello","organization_id":"acme"}
	// <nil>
}
