package quota

import (
	"context"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Fields of an organization's hash with the limits of its waiting tasks.
const (
	fieldTasks      = "max_tasks"
	fieldTaskBytes  = "max_task_bytes"
	fieldTaskWeight = "task_weight"
)

// TaskLimit limits the waiting tasks of one organization, for each kind of task. 0 means no limit.
type TaskLimit struct {
	Tasks, Bytes int64
	// Weight is how many of its tasks are handed out for each task of an organization with weight
	// 1.
	Weight int64
}

// Tasks knows the task limits of organizations. It is safe for concurrent use.
type Tasks struct{ limits *fields }

// NewTasks returns the limits. Numbers in an organization's hash in state override the given ones.
// log gets failures to read them, and may be nil.
func NewTasks(state redis.Cmdable, keys keyspace.Keyspace, fallback TaskLimit, log *zap.Logger) *Tasks {
	if log == nil {
		log = zap.NewNop()
	}
	return &Tasks{limits: newFields(state, keys, log.Named("quota"),
		field{name: fieldTasks, fallback: fallback.Tasks}, field{name: fieldTaskBytes, fallback: fallback.Bytes},
		field{name: fieldTaskWeight, fallback: fallback.Weight})}
}

// SetFallback replaces the limits that apply unless an organization's hash has others.
func (t *Tasks) SetFallback(l TaskLimit) { t.limits.setFallbacks(l.Tasks, l.Bytes, l.Weight) }

// Limit returns the limit of an organization. It is read again after a few seconds.
func (t *Tasks) Limit(ctx context.Context, org orgctx.ID) TaskLimit {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	values := t.limits.read(ctx, org)
	return TaskLimit{Tasks: values[0], Bytes: values[1], Weight: values[2]}
}
