package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
)

// Tasks counts tasks. Its methods wait for Redis, for a bounded time.
type Tasks interface {
	// Kinds returns the kinds of task that this gateway dispatches, as far as it knows.
	Kinds() []string
	// Count counts the tasks of a kind.
	Count(ctx context.Context, kind string) (inventory.Tasks, error)
	// Lines returns the organizations with tasks of a kind waiting, at most limit.
	Lines(ctx context.Context, kind string, limit int) ([]inventory.TaskLine, error)
}

// parameterKind is a parameter of GET /v1/tasks that no other view has.
const parameterKind = "kind"

var errKind = errors.New("api: not a kind of task")

// countingTasks returns GET /v1/tasks: the counts of all known kinds, or of one, with the
// organizations that wait.
func countingTasks(t Tasks) view {
	return view{
		path: "/v1/tasks", parameters: []string{parameterKind, parameterLimit},
		refusals: []problem{{errKind, http.StatusBadRequest, "invalid_kind", "Send kind as 1 to 64 characters of A-Z a-z 0-9 _ -."}},
		do: func(ctx context.Context, parameters map[string]string) (any, error) {
			kind, one := parameters[parameterKind]
			limit := inventory.DefaultLimit
			if text, given := parameters[parameterLimit]; given {
				var err error
				if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > inventory.MaxLimit {
					return nil, inventory.ErrLimit
				}
			}
			if !one {
				return countAll(ctx, t)
			}
			if !orgctx.ValidID(kind) {
				return nil, errKind
			}
			count, err := t.Count(ctx, kind)
			if err != nil {
				return nil, err
			}
			lines, err := t.Lines(ctx, kind, limit)
			return map[string]any{"tasks": []inventory.Tasks{count}, "lines": notNull(lines)}, err
		},
	}
}

func countAll(ctx context.Context, t Tasks) (any, error) {
	rows := []inventory.Tasks{}
	for _, kind := range t.Kinds() {
		count, err := t.Count(ctx, kind)
		if err != nil {
			return nil, err
		}
		rows = append(rows, count)
	}
	return map[string]any{"tasks": rows}, nil
}
