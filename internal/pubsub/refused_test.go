package pubsub_test

import (
	"strings"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestConnectionRefused: a server that answers but refuses connections has published nothing and
// knows nothing of a history.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			client := redistest.StartServer(t).NewRefusedClient(refusal)
			bus := pubsub.NewRedis(client, newKeyspace(t), pubsub.Options{})
			g := testkit.Group(t, "acme", "room")
			payload := []byte(pubsubtest.Payload(g, "x"))
			ctx := t.Context()
			_, recorded := bus.Record(ctx, g, payload, event.Recording{})
			_, _, since := bus.Since(ctx, g, event.Position{}, 10)
			_, _, resumed := bus.Resume(ctx, g, event.Mark{Epoch: "e"}, 10, 1<<20)
			_, history := bus.History(ctx, g, 10)
			for name, err := range map[string]error{
				"Publish":    bus.Publish(ctx, g, payload),
				"PublishAll": bus.PublishAll(ctx, []event.Publication{{Group: g, Payload: payload}})[0].Err,
				"Record":     recorded, "Since": since, "Resume": resumed, "History": history,
			} {
				if err == nil || !strings.Contains(err.Error(), refusal.Error) {
					t.Errorf("%s: got %v, want %s", name, err, refusal.Error)
				}
			}
		})
	}
}
