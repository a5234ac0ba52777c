package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

func newTools(f *fixture, byName map[string]task.Tool) *task.Tools {
	return task.NewTools(f.client, f.keys, f.directory, byName)
}

func TestRunTool(t *testing.T) {
	f := newFixture(t)
	errOwn := errors.New("own")
	tools := newTools(f, map[string]task.Tool{
		"who": func(ctx context.Context, _ *task.Store, _ json.RawMessage) (json.RawMessage, error) {
			org, _ := orgctx.From(ctx)
			return json.Marshal(org)
		},
		"fails":    func(context.Context, *task.Store, json.RawMessage) (json.RawMessage, error) { return nil, errOwn },
		"panics":   func(context.Context, *task.Store, json.RawMessage) (json.RawMessage, error) { panic("secret") },
		"not JSON": func(context.Context, *task.Store, json.RawMessage) (json.RawMessage, error) { return nil, nil },
	})
	tests := map[string]struct {
		org, name, input string
		want             string
		wantErr          error
	}{
		"organization of the context": {"acme", "who", `{"organization_id":"globex"}`, `"acme"`, nil},
		"of another context":          {"globex", "who", `null`, `"globex"`, nil},
		"no organization":             {"", "who", `null`, "", orgctx.ErrNoOrganization},
		"unknown without one":         {"", "none", `null`, "", orgctx.ErrNoOrganization},
		"unknown":                     {"acme", "none", `null`, "", task.ErrUnknownTool},
		"input not JSON":              {"acme", "who", `{`, "", task.ErrNotJSON},
		"output not JSON":             {"acme", "not JSON", `{}`, "", task.ErrNotJSON},
		"error":                       {"acme", "fails", `{}`, "", errOwn},
		"panic":                       {"acme", "panics", `{}`, "", task.ErrPanic},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if test.org != "" {
				ctx = as(t, test.org)
			}
			got, err := task.RunTool(task.WithTools(ctx, tools), test.name, json.RawMessage(test.input))
			if string(got) != test.want || !errors.Is(err, test.wantErr) {
				t.Errorf("got %s, %v, want %s, %v", got, err, test.want, test.wantErr)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("error shows what a tool panicked with: %v", err)
			}
		})
	}
	if _, err := task.RunTool(as(t, "acme"), "who", json.RawMessage(`null`)); !errors.Is(err, task.ErrUnknownTool) {
		t.Errorf("without tools: got %v, want ErrUnknownTool", err)
	}
}

// A tool cannot reach another organization's keys, whatever name it chooses, and even with a store
// kept from an earlier call.
func TestStoreReachesOneOrganization(t *testing.T) {
	f := newFixture(t)
	var kept *task.Store
	tools := newTools(f, map[string]task.Tool{
		"keep": func(ctx context.Context, store *task.Store, input json.RawMessage) (json.RawMessage, error) {
			kept = store
			return input, store.Set(ctx, "notes", input, time.Hour)
		},
		"steal": func(ctx context.Context, store *task.Store, _ json.RawMessage) (json.RawMessage, error) {
			if _, err := kept.Get(ctx, "notes"); !errors.Is(err, task.ErrForeign) {
				t.Errorf("Get from a kept store: got %v, want ErrForeign", err)
			}
			if err := kept.Set(ctx, "notes", nil, 0); !errors.Is(err, task.ErrForeign) {
				t.Errorf("Set in a kept store: got %v, want ErrForeign", err)
			}
			if err := kept.Delete(ctx, "notes"); !errors.Is(err, task.ErrForeign) {
				t.Errorf("Delete in a kept store: got %v, want ErrForeign", err)
			}
			if _, err := kept.Get(orgctx.Without(ctx), "notes"); !errors.Is(err, orgctx.ErrNoOrganization) {
				t.Errorf("Get without organization: got %v, want ErrNoOrganization", err)
			}
			for _, name := range []string{"orgcast:{acme}:store:notes", "{acme}", "../acme", "", "a:b", "*", strings.Repeat("a", 101)} {
				if _, err := store.Get(ctx, name); !errors.Is(err, task.ErrInvalidName) {
					t.Errorf("Get of %q: got %v, want ErrInvalidName", name, err)
				}
			}
			if _, err := store.Get(ctx, "notes"); !errors.Is(err, task.ErrNotStored) {
				t.Errorf("Get of the same name: got %v, want ErrNotStored", err)
			}
			return json.RawMessage(`null`), store.Delete(ctx, "notes")
		},
		"read": func(ctx context.Context, store *task.Store, _ json.RawMessage) (json.RawMessage, error) {
			return store.Get(ctx, "notes")
		},
	})
	if _, err := tools.RunTool(as(t, "acme"), "keep", json.RawMessage(`"of acme"`)); err != nil {
		t.Fatal(err)
	}
	if _, err := tools.RunTool(as(t, "globex"), "steal", json.RawMessage(`null`)); err != nil {
		t.Fatal(err)
	}
	if got, err := tools.RunTool(as(t, "acme"), "read", json.RawMessage(`null`)); err != nil || string(got) != `"of acme"` {
		t.Errorf("got %s, %v, want it untouched", got, err)
	}
	if err := kept.Set(as(t, "acme"), "big", make([]byte, task.MaxStored+1), 0); !errors.Is(err, task.ErrTooLarge) {
		t.Errorf("Set: got %v, want ErrTooLarge", err)
	}
	if _, err := task.NewStore(t.Context(), f.client, f.keys); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("NewStore: got %v, want ErrNoOrganization", err)
	}
}
