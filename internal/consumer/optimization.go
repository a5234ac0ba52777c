package consumer

import (
	"context"
	"encoding/json"
	"slices"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Optimization shows the optimisation of images at /ws/image-optimizer/{id:int}/: the last update,
// then each optimization_update, and each job_update of the jobs that do it. It follows the jobs that
// the query names, ?job=ID, and those that an optimization_update names as its job_id, be it recorded
// or live. It serves one connection.
type Optimization struct {
	Quiet

	jobs []string // that are followed: Connect fills it in, then the writer alone
}

var (
	_ MessageHandler = (*Optimization)(nil)
	_ EventHandler   = (*Optimization)(nil)
)

// optimizationUpdate is the first frame of an optimisation that has said nothing yet, or that was
// given up.
type optimizationUpdate struct {
	Type           string      `json:"type"` // "optimization_update"
	OptimizationID json.Number `json:"optimization_id"`
	Status         string      `json:"status"`
	Error          string      `json:"error,omitempty"`
}

// jobUpdate is the first frame of a job that was given up.
type jobUpdate struct {
	Type   string `json:"type"` // "job_update"
	JobID  string `json:"job_id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// maxJobs is how many jobs a connection follows: a page shows one or two.
const maxJobs = 8

// Connect joins the group of the optimisation and sends its last update, and then those of its jobs.
func (o *Optimization) Connect(ctx context.Context, c Conn) error {
	for _, job := range c.Query()["job"] {
		if !orgctx.ValidID(job) || !o.take(job) {
			return ErrNotFound
		}
	}
	err := show(ctx, c, "optimization_"+c.Param("id"), func(history []*event.Event) any {
		for _, e := range slices.Backward(history) {
			o.take(jobOf(e))
		}
		state := optimizationUpdate{Type: "optimization_update", OptimizationID: json.Number(c.Param("id")), Status: statusPending}
		if code, ok := givenUp(history, state.Type); ok {
			state.Status, state.Error = statusFailed, code
			return state
		}
		if last, ok := newestOf(c, history, state.Type); ok {
			return last
		}
		return state
	})
	if err != nil {
		return err
	}
	for _, job := range o.jobs {
		if err := followJob(ctx, c, job); err != nil {
			return err
		}
	}
	return nil
}

// ReceiveMessage knows no messages: ping is answered for all consumers.
func (*Optimization) ReceiveMessage(context.Context, Conn, event.Message) error {
	return ErrUnknownType
}

// HandleEvent follows the job that a live event names. Joining waits for the bus; the writer, in which
// this runs, does not.
func (o *Optimization) HandleEvent(_ context.Context, c Conn, e *event.Event) (forward bool) {
	if job := jobOf(e); o.take(job) {
		c.Go(func(ctx context.Context) error { return followJob(ctx, c, job) })
	}
	return true
}

// take enters a job among those that are followed, and reports whether it was new and there was room.
func (o *Optimization) take(job string) bool {
	if job == "" || len(o.jobs) == maxJobs || slices.Contains(o.jobs, job) {
		return false
	}
	o.jobs = append(o.jobs, job)
	return true
}

// followJob joins the group of a job and sends its last update, if there is one.
func followJob(ctx context.Context, c Conn, job string) error {
	return c.JoinWithHistory(ctx, "optimization_job_"+job, historyLength, func(history []*event.Event) error {
		if code, ok := givenUp(history, "job_update"); ok {
			return c.Send(jobUpdate{Type: "job_update", JobID: job, Status: statusFailed, Error: code})
		}
		if last, ok := newestOf(c, history, "job_update"); ok {
			return c.Send(last)
		}
		return nil
	})
}

// jobOf returns the job that an optimization_update names, "" if it names none.
func jobOf(e *event.Event) string {
	if e.Type() != "optimization_update" {
		return ""
	}
	u, _ := said[struct {
		JobID ident `json:"job_id"`
	}](e)
	return string(u.JobID)
}
