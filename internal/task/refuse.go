package task

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"orgcast/internal/directory"
)

// reasonSuspended is the reason why tasks of a suspended organization are dead letters.
const reasonSuspended = "organization_suspended"

// refuseJob ends a task that does not run because its organization is suspended. The organization
// and its groups exist, so its members can see the end of the task, now or after the suspension.
func (q *queue) refuseJob(ctx context.Context, log *zap.Logger, e *entry, job *Job) {
	q.metrics.refused.WithLabelValues(q.name, reasonSuspended).Inc()
	log.Warn("task refused", zap.String("reason", reasonSuspended))
	q.conclude(ctx, log, e, job, endFailed, q.failure(log, job, CodeRefused), reasonSuspended)
}

// refuse buries an entry that must not run. It publishes nothing: an unknown organization has no
// members to see it, and nothing may be written for it.
func (q *queue) refuse(ctx context.Context, log *zap.Logger, e *entry, err error) {
	reason := "malformed"
	switch {
	case errors.Is(err, ErrNoOrganization):
		reason = "no_organization"
	case errors.Is(err, directory.ErrUnknown):
		reason = "organization_unknown"
	}
	if !q.bury(ctx, log, e, reason) {
		return
	}
	q.metrics.refused.WithLabelValues(q.name, reason).Inc()
	log.Warn("task refused", zap.String("reason", reason), zap.Error(err))
	q.acknowledge(ctx, log, e)
}
