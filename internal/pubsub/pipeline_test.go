package pubsub_test

import (
	"context"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit/redistest"

	"github.com/redis/go-redis/v9"
)

// TestConnectionRefused: a server that answers, but takes no connection, has published nothing and says
// nothing of a history. The client gives its commands no error of their own then.
func TestConnectionRefused(t *testing.T) {
	addr := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: addr, Username: "nobody", Password: "wrong", MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{})
	g := pubsubtest.Group(t, "acme", "room")
	payload := []byte(pubsubtest.Payload(g, "x"))
	for name, do := range map[string]func(context.Context) error{
		"publish": func(ctx context.Context) error {
			return bus.PublishAll(ctx, []pubsub.Outgoing{{Group: g, Payload: payload}})[0].Err
		},
		"record": func(ctx context.Context) error {
			_, err := bus.Record(ctx, g, payload, pubsub.RecordOptions{})
			return err
		},
		"history since its beginning": func(ctx context.Context) error {
			_, _, err := bus.Since(ctx, g, event.Position{}, 10)
			return err
		},
		"resume": func(ctx context.Context) error {
			_, _, err := bus.Resume(ctx, g, event.Mark{Epoch: "e"}, 10)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := do(t.Context()); !redis.IsAuthError(err) {
				t.Errorf("got %v, want that the password is wrong", err)
			}
		})
	}
}
