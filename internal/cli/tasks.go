package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

const tasksUsage = `
Look after the tasks of one kind:

  gateway tasks list KIND                        how many there are, and which organizations wait
  gateway tasks list KIND ORGANIZATION           the organization's tasks, up to --limit
  gateway tasks show KIND ORGANIZATION ID        one of them, with its payload
  gateway tasks retry KIND ORGANIZATION ID       try a dead letter again, as a new task
  gateway tasks drop KIND ORGANIZATION ID        end a task without running it, or remove a dead letter

With --all instead of ID, retry takes all dead letters of the organization, and drop all of its
tasks that wait. A task is waiting in the line of its organization, unread in the stream, held by
a worker or until its next attempt, or dead.

A dropped task ends with {"type":"task_failed","task_id":ID,"code":"dropped"} in its group. If a
worker has it already, the worker is told when it next reports progress.

The Redis user needs the rights of a worker (deploy/redis/users.acl).
`

// tasksArguments are the parsed arguments.
type tasksArguments struct {
	verb, kind string
	org        orgctx.ID
	id         string
	all        bool
	limit      int
}

func tasksCommand(ctx context.Context, p *Process, args []string) error {
	s := new(settings)
	set := config.New("tasks", tasksUsage)
	s.declareRedis(set)
	s.declareState(set)
	var a tasksArguments
	set.Bool(&a.all, "all", false, "all tasks of the organization instead of one")
	set.Int(&a.limit, "limit", 100, 1, "how many lines to list")
	return redisCommand{s, set, a.read, func(clients *app.Clients, keys keyspace.Keyspace) error {
		queues, err := app.NewQueues(clients, keys)
		if err != nil {
			return err
		}
		switch a.verb {
		case "list":
			return p.listTasks(ctx, queues, &a)
		case "show":
			return p.showTask(ctx, queues, &a)
		default:
			return p.changeTasks(ctx, queues, &a)
		}
	}}.run(p, args)
}

// read parses the arguments. The error is [ErrUsage] if there are too many or too few.
func (a *tasksArguments) read(args []string) (err error) {
	most := map[string]int{"list": 3, "show": 4, "retry": 4, "drop": 4}
	if len(args) < 2 || len(args) > most[args[0]] {
		return ErrUsage
	}
	a.verb, a.kind = args[0], args[1]
	if a.all && a.verb != "retry" && a.verb != "drop" || a.verb != "list" && len(args) < 3 {
		return ErrUsage
	}
	if !orgctx.ValidID(a.kind) {
		return fmt.Errorf("kind %q: %w", a.kind, orgctx.ErrInvalidID)
	}
	if len(args) > 2 {
		if a.org, err = parseOrganization(args[2]); err != nil {
			return err
		}
	}
	if len(args) > 3 {
		a.id = args[3]
	}
	if a.verb != "list" && (a.id == "") != a.all {
		return ErrUsage
	}
	return nil
}

func (p *Process) listTasks(ctx context.Context, queues *task.Queues, a *tasksArguments) error {
	out := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	left := a.limit
	var err error
	if a.org.IsZero() {
		var c task.Counts
		if c, err = queues.Count(ctx, a.kind); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(p.Stdout, "waiting %d (%d bytes), unread %d, held %d, dead %d\n", c.Waiting, c.WaitingBytes, max(c.Open-c.Held, 0), c.Held, c.Dead) // Flush has the error
		err = queues.Lines(ctx, a.kind, func(l task.Line) bool {
			if left == a.limit {
				_, _ = fmt.Fprintln(out, "\nORGANIZATION\tWAITING\tBYTES\tWEIGHT")
			}
			_, _ = fmt.Fprintf(out, "%s\t%d\t%d\t%d\n", l.Organization, l.Tasks, l.Bytes, l.Weight)
			left--
			return left > 0
		})
	} else {
		_, _ = fmt.Fprintln(out, "STATE\tID\tUSER\tGROUP\tDISPATCHED\tDELIVERIES\tREASON")
		err = queues.Tasks(ctx, a.kind, a.org, func(f task.Found) bool {
			_, _ = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", f.State, f.ID, f.UserID, f.Group.Name(), moment(f.Dispatched), f.Deliveries, f.Reason)
			left--
			return left > 0
		})
	}
	if left == 0 {
		_, _ = fmt.Fprintf(out, "There may be more; see --limit.\n")
	}
	return errors.Join(err, out.Flush())
}

// moment returns a time as text.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func (p *Process) showTask(ctx context.Context, queues *task.Queues, a *tasksArguments) error {
	f, err := queues.Find(ctx, a.kind, a.org, a.id)
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"state", f.State},
		{"kind", f.Kind},
		{"organization", f.Organization().String()},
		{"id", f.ID},
		{"user", f.UserID},
		{"group", f.Group.Name()},
		{"idempotency key", f.Idempotency},
		{"dispatched", moment(f.Dispatched)},
		{"deliveries", fmt.Sprint(f.Deliveries)},
		{"reason", f.Reason},
		{"payload", string(f.Payload)},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(out, "%s\t%s\n", line[0], line[1]) // Flush has the error
		}
	}
	return out.Flush()
}

// changeTasks retries or drops one task, or all.
func (p *Process) changeTasks(ctx context.Context, queues *task.Queues, a *tasksArguments) error {
	change := func(f task.Found) error {
		if a.verb == "drop" {
			if err := queues.Drop(ctx, f); err != nil {
				return fmt.Errorf("drop %s: %w", f.ID, err)
			}
			_, err := fmt.Fprintln(p.Stdout, "dropped", f.ID)
			return err
		}
		id, err := queues.Retry(ctx, f)
		if err != nil {
			return fmt.Errorf("retry %s: %w", f.ID, err)
		}
		_, err = fmt.Fprintln(p.Stdout, "retried", f.ID, "as", id)
		return err
	}
	if !a.all {
		f, err := queues.Find(ctx, a.kind, a.org, a.id)
		if err != nil {
			return err
		}
		return change(f)
	}
	state := map[string]string{"drop": task.Waiting, "retry": task.Dead}[a.verb]
	for {
		var batch []task.Found // changing a task moves those after it
		err := queues.Tasks(ctx, a.kind, a.org, func(f task.Found) bool {
			if f.State == state {
				batch = append(batch, f)
			}
			return len(batch) < tasksBatch
		})
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, f := range batch {
			if err := change(f); err != nil && !errors.Is(err, task.ErrTaskEnded) {
				return err
			}
		}
	}
}

// tasksBatch is how many tasks are read before they are changed.
const tasksBatch = 500
