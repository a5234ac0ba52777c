package task_test

import (
	"errors"
	"strings"
	"testing"

	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestConnectionRefused: if Redis refuses the connection itself, because of a changed password or a
// deleted user, no task is dispatched, and stored values and questions are unknown.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			client := f.server.NewRefusedClient(refusal)
			dispatcher, err := task.NewDispatcher(client, f.keys, task.DispatcherOptions{})
			if err != nil {
				t.Fatal(err)
			}
			asks, err := task.NewAsks(client, f.keys)
			if err != nil {
				t.Fatal(err)
			}
			ctx := as(t, "acme")
			store, err := task.NewStore(ctx, client, f.keys)
			if err != nil {
				t.Fatal(err)
			}
			_, dispatched := dispatcher.Dispatch(ctx, task.Task{Kind: "chat", Group: testkit.Group(t, "acme", "room")})
			_, got := store.Get(ctx, "name")
			_, prompt := asks.Prompt(ctx, "execution", 0)
			_, input := asks.Wait(ctx, "execution", 0)
			_, opened := asks.Open(ctx, "execution", 0, []byte(`""`), 0)
			for name, err := range map[string]error{
				"Dispatch": dispatched, "Get": got, "Set": store.Set(ctx, "name", nil, 0), "Delete": store.Delete(ctx, "name"),
				"Prompt": prompt, "Wait": input, "Open": opened, "Answer": asks.Answer(ctx, "execution", 0, ""), "Close": asks.Close(ctx, "execution", 0),
			} {
				if err == nil || errors.Is(err, task.ErrNotStored) || errors.Is(err, task.ErrAskNotFound) || !strings.Contains(err.Error(), refusal.Error) {
					t.Errorf("%s: got %v, want %s", name, err, refusal.Error)
				}
			}
		})
	}
}
