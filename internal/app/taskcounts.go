package app

import (
	"context"
	"maps"
	"slices"
	"sync"

	"orgcast/internal/api"
	"orgcast/internal/consumer"
	"orgcast/internal/inventory"
	"orgcast/internal/task"
)

// maxKinds bounds how many kinds a node remembers that it has dispatched.
const maxKinds = 100

// kindsSeen remembers the kinds of task that this node has dispatched.
type kindsSeen struct {
	mu    sync.Mutex
	kinds map[string]bool
}

func (k *kindsSeen) note(kind string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kinds == nil {
		k.kinds = make(map[string]bool)
	}
	if len(k.kinds) < maxKinds {
		k.kinds[kind] = true
	}
}

// list returns them, with those of the built-in consumers.
func (k *kindsSeen) list() []string {
	all := make(map[string]bool)
	for _, kind := range consumer.TaskKinds() {
		all[kind] = true
	}
	k.mu.Lock()
	maps.Copy(all, k.kinds)
	k.mu.Unlock()
	return slices.Sorted(maps.Keys(all))
}

// taskCounts counts tasks for the API.
type taskCounts struct {
	seen   *kindsSeen
	queues *task.Queues
}

var _ api.Tasks = (*taskCounts)(nil)

// Kinds implements [api.Tasks].
func (t *taskCounts) Kinds() []string { return t.seen.list() }

// Count implements [api.Tasks].
func (t *taskCounts) Count(ctx context.Context, kind string) (inventory.Tasks, error) {
	c, err := t.queues.Count(ctx, kind)
	return inventory.Tasks{Kind: kind, Waiting: c.Waiting, WaitingBytes: c.WaitingBytes, Unread: max(c.Open-c.Held, 0), Held: c.Held, Dead: c.Dead}, err
}

// Lines implements [api.Tasks].
func (t *taskCounts) Lines(ctx context.Context, kind string, limit int) (list []inventory.TaskLine, err error) {
	err = t.queues.Lines(ctx, kind, func(l task.Line) bool {
		list = append(list, inventory.TaskLine{Organization: l.Organization.String(), Tasks: l.Tasks, Bytes: l.Bytes, Weight: l.Weight})
		return len(list) < limit
	})
	return list, err
}
