package api_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"orgcast/internal/api"
	"orgcast/internal/inventory"
)

// counts are tasks of two kinds.
type counts struct{ broken bool }

func (counts) Kinds() []string { return []string{"chat", "crew"} }

func (c counts) Count(_ context.Context, kind string) (inventory.Tasks, error) {
	if c.broken {
		return inventory.Tasks{}, errors.New("no Redis")
	}
	return inventory.Tasks{Kind: kind, Waiting: 2, Dead: 1}, nil
}

func (counts) Lines(_ context.Context, _ string, limit int) ([]inventory.TaskLine, error) {
	lines := []inventory.TaskLine{{Organization: "acme", Tasks: 1}, {Organization: "globex", Tasks: 1}}
	return lines[:min(limit, len(lines))], nil
}

// TestTasksAreCounted: all kinds, or one with the organizations that wait.
func TestTasksAreCounted(t *testing.T) {
	h := api.New(api.Options{Local: true, Publisher: new(recorder), Revoker: new(revoker), Tasks: counts{}, Log: nop})
	_, body := get(t, h, "/v1/tasks")
	if rows, _ := body["tasks"].([]any); len(rows) != 2 {
		t.Errorf("got %v, want two kinds", body)
	}
	_, body = get(t, h, "/v1/tasks?kind=echo&limit=1")
	rows, _ := body["tasks"].([]any)
	lines, _ := body["lines"].([]any)
	if len(rows) != 1 || len(lines) != 1 {
		t.Errorf("got %v, want one kind and one organization", body)
	}
	for url, code := range map[string]string{
		"/v1/tasks?kind=a:b": "invalid_kind", "/v1/tasks?kind=chat&limit=0": "invalid_limit", "/v1/tasks?limit=x": "invalid_limit", "/v1/tasks?user_id=ada": "unknown_parameter",
	} {
		if status, body := get(t, h, url); status != http.StatusBadRequest || body["code"] != code {
			t.Errorf("%s: got %d %v, want %s", url, status, body, code)
		}
	}
	h = api.New(api.Options{Local: true, Publisher: new(recorder), Revoker: new(revoker), Tasks: counts{broken: true}, Log: nop})
	if status, body := get(t, h, "/v1/tasks"); status != http.StatusServiceUnavailable || body["code"] != "unavailable" {
		t.Errorf("without Redis: got %d %v", status, body)
	}
}
