package consumer

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Optimization shows the optimization of images at /ws/image-optimizer/{id:int}/: the last update,
// then each optimization_update, and each job_update of its jobs. It follows the jobs named in the
// query, ?job=ID, and those named as job_id in an optimization_update, recorded or live. Fields
// that back ends put into data appear in the frame itself, as pages of the original application
// expect. An Optimization serves one connection.
type Optimization struct {
	Quiet
	translated

	jobs []job // followed jobs; Connect fills the list, and then only the writer uses it
}

// job is a job of an optimization.
type job struct {
	id   string          // the id in the group's name
	said json.RawMessage // the id as sent: a page that knows 41 does not know "41"
}

var (
	_ MessageHandler = (*Optimization)(nil)
	_ EventHandler   = (*Optimization)(nil)
)

// maxJobs is how many jobs a connection follows. A page shows one or two.
const maxJobs = 8

// Connect joins the optimization's group and sends its last update, and then those of its jobs.
func (o *Optimization) Connect(ctx context.Context, c Conn) error {
	for _, id := range c.Query()["job"] {
		if !orgctx.ValidID(id) || !o.remember(job{id, rawText(id)}) {
			return ErrNotFound
		}
	}
	err := show(ctx, c, "optimization_"+c.Param("id"), func(history []*event.Event) any {
		for _, e := range slices.Backward(history) {
			o.remember(jobOf(e))
		}
		const typ = "optimization_update"
		last, failed := newestOf(history, typ)
		return lastUpdate(c, typ, last, failed, fields{"optimization_id": json.RawMessage(c.Param("id")), "status": rawText(statusPending)})
	})
	if err != nil {
		return err
	}
	for _, j := range o.jobs {
		if err := followJob(ctx, c, j); err != nil {
			return err
		}
	}
	return nil
}

// ReceiveMessage knows no types. JSON answers pings.
func (*Optimization) ReceiveMessage(context.Context, Conn, event.Message) error {
	return ErrUnknownType
}

// HandleEvent follows the job that a live event names. Joining waits for the bus, and the writer,
// in which this runs, must not wait.
func (o *Optimization) HandleEvent(_ context.Context, c Conn, e *event.Event) (forward bool) {
	if j := jobOf(e); o.remember(j) {
		c.Go(func(ctx context.Context) error { return followJob(ctx, c, j) })
	}
	if u, ok := flatten(e); ok {
		return o.forward(c, e, flatFrame(e, e.Type(), u))
	}
	return o.forward(c, e, nil)
}

// remember adds a job to the followed ones. It reports false if the job is known or there is no
// room.
func (o *Optimization) remember(j job) bool {
	if j.id == "" || len(o.jobs) == maxJobs || slices.ContainsFunc(o.jobs, func(known job) bool { return known.id == j.id }) {
		return false
	}
	o.jobs = append(o.jobs, j)
	return true
}

// followJob joins the group of a job and sends its last update, if there is one.
func followJob(ctx context.Context, c Conn, j job) error {
	const typ = "job_update"
	return c.JoinWithHistory(ctx, "optimization_job_"+j.id, historyLength, func(history []*event.Event) error {
		last, failed := newestOf(history, typ)
		if last == nil && failed == nil {
			return nil
		}
		return c.Send(lastUpdate(c, typ, last, failed, fields{"job_id": j.said}))
	})
}

// lastUpdate shows the newest event of a type as it was sent live. If the work failed after it, the
// update says that it failed, and the code. begin is the update if there is no event yet.
func lastUpdate(c Conn, typ string, last, failed *event.Event, begin fields) any {
	u, nested := begin, false
	if last != nil {
		u, nested = flatten(last)
	}
	switch {
	case failed != nil:
		if u["status"], u["error"] = rawText(statusFailed), rawText(failureOf(failed)); last != nil {
			maps.Copy(begin, u) // its id, in case the update has none
			u = begin
		}
	case last != nil && (!nested || c.Protocol() == ProtocolV1):
		return last
	case last != nil:
		return flatFrame(last, typ, u)
	}
	return u.object(typ)
}

// flatten returns the fields of an optimization_update or job_update. If data is an object, its
// fields are merged into the others, and nested is true.
func flatten(e *event.Event) (f fields, nested bool) {
	f, _ = read(e, nil)
	if e.Type() != "optimization_update" && e.Type() != "job_update" || isNull(f["data"]) || !isObject(f["data"]) {
		return f, false
	}
	inner, _ := f.inside("data", nil)
	delete(f, "data")
	delete(inner, "type")
	delete(inner, "organization_id")
	maps.Copy(f, inner)
	return f, true
}

// jobOf returns the job that an optimization_update names, the zero job if it names none.
func jobOf(e *event.Event) job {
	if e.Type() != "optimization_update" {
		return job{}
	}
	u, _ := flatten(e)
	id := u.id("job_id")
	if !orgctx.ValidID(id) {
		return job{}
	}
	return job{id, u["job_id"]}
}
