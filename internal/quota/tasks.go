package quota

import (
	"context"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Fields of an organization's hash that say what it may have waiting.
const (
	fieldTasks      = "max_tasks"
	fieldTaskBytes  = "max_task_bytes"
	fieldTaskWeight = "task_weight"
)

// TaskLimit is what one organization may have waiting of each kind of task. 0 is no limit.
type TaskLimit struct {
	Tasks, Bytes int64
	// Weight is how many of its tasks go for each one of an organization with the weight 1.
	Weight int64
}

// Tasks knows how many tasks organizations may have waiting. It is safe for concurrent use.
type Tasks struct{ limits *fields }

// NewTasks returns the limits: those of the organizations' hashes in state where they are numbers,
// else those given. log receives failures to read them and may be nil.
func NewTasks(state redis.UniversalClient, keys keyspace.Keyspace, fallback TaskLimit, log *zap.Logger) *Tasks {
	if log == nil {
		log = zap.NewNop()
	}
	return &Tasks{limits: newFields(state, keys, log.Named("quota"),
		field{name: fieldTasks, fallback: fallback.Tasks}, field{name: fieldTaskBytes, fallback: fallback.Bytes},
		field{name: fieldTaskWeight, fallback: fallback.Weight})}
}

// Limit returns the limit of an organization. It is read again after a few seconds.
func (t *Tasks) Limit(ctx context.Context, org orgctx.ID) TaskLimit {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	values := t.limits.read(ctx, org)
	return TaskLimit{Tasks: values[0], Bytes: values[1], Weight: values[2]}
}
