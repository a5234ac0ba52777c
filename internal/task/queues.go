package task

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redisreply"
	"orgcast/internal/redistime"
)

// Where a task is.
const (
	Waiting = "waiting" // in the line of its organization
	Unread  = "unread"  // in the stream, and no worker has read it
	Held    = "held"    // a worker has it, or it waits for its next attempt
	Dead    = "dead"    // in the dead letters
)

// CodeDropped is the code of a task that an operator dropped.
const CodeDropped = "dropped"

// page is how many entries are read at a time.
const page = 200

var (
	// ErrNoTask is returned if there is no such task.
	ErrNoTask = errors.New("task: no such task")
	// ErrTaskEnded is returned for a task that was complete when it was dropped.
	ErrTaskEnded = errors.New("task: is complete")
	// ErrNotDead is returned for a task that cannot be retried because it is not a dead letter.
	ErrNotDead = errors.New("task: is not a dead letter")
)

// Queues is an operator's view of the tasks of all kinds. It is safe for concurrent use.
type Queues struct {
	client       redis.Cmdable
	keys         keyspace.Keyspace
	dispatcher   *Dispatcher
	clocks       *redistime.Clocks
	finish, drop *redis.Script
}

// NewQueues returns the queues. The limits in the options apply to retried tasks. The caller closes
// the client.
func NewQueues(client redis.Cmdable, keys keyspace.Keyspace, o DispatcherOptions) (*Queues, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	d, err := NewDispatcher(client, keys, o)
	if err != nil {
		return nil, err
	}
	return &Queues{client: client, keys: keys, dispatcher: d, clocks: redistime.New(client, nil), finish: script("finish"), drop: script("drop")}, nil
}

// Counts are the numbers of tasks of a kind.
type Counts struct {
	Waiting, WaitingBytes int64 // in lines
	Open                  int64 // in the stream: unread or held
	Held                  int64
	Dead                  int64
}

// Count counts the tasks of a kind. Its cost does not depend on their number.
func (q *Queues) Count(ctx context.Context, kind string) (c Counts, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return countTasks(ctx, q.client, q.keys, kind)
}

func countTasks(ctx context.Context, client redis.Cmdable, keys keyspace.Keyspace, kind string) (c Counts, err error) {
	pipe := client.Pipeline()
	lines := pipe.HMGet(ctx, keys.TaskLines(kind), ":entries", ":bytes")
	open := pipe.XLen(ctx, keys.Tasks(kind))
	held := pipe.XPending(ctx, keys.Tasks(kind), consumerGroup)
	dead := pipe.XLen(ctx, keys.DeadTasks(kind))
	_ = redisreply.Exec(ctx, pipe) // each has its own error
	err = held.Err()
	if err != nil && strings.Contains(err.Error(), "NOGROUP") { // no worker has started yet
		err = nil
	}
	if err := cmp.Or(lines.Err(), open.Err(), dead.Err(), err); err != nil { // without Redis, all are the same
		return Counts{}, fmt.Errorf("count tasks: %w", err)
	}
	c = Counts{Open: open.Val(), Dead: dead.Val()}
	for i, to := range []*int64{&c.Waiting, &c.WaitingBytes} {
		text, _ := lines.Val()[i].(string)
		n, _ := strconv.ParseInt(text, 10, 64) // missing means 0
		*to = max(n, 0)
	}
	if held.Err() == nil {
		c.Held = held.Val().Count
	}
	return c, nil
}

// Line is the line of one organization's waiting tasks.
type Line struct {
	Organization orgctx.ID
	Tasks, Bytes int64
	Weight       int64
}

// Lines calls fn for each organization that has tasks of a kind waiting, until fn returns false.
func (q *Queues) Lines(ctx context.Context, kind string, fn func(Line) bool) error {
	for start := int64(0); ; start += page {
		orgs, err := q.client.ZRange(ctx, q.keys.TaskRing(kind), start, start+page-1).Result()
		if err != nil || len(orgs) == 0 {
			return err
		}
		for _, text := range orgs {
			org, err := orgctx.ParseID(text)
			if err != nil {
				continue // not a name made by a script
			}
			line, err := q.line(ctx, kind, org)
			if err != nil {
				return err
			}
			if line.Tasks > 0 && !fn(line) {
				return nil
			}
		}
	}
}

func (q *Queues) line(ctx context.Context, kind string, org orgctx.ID) (Line, error) {
	pipe := q.client.Pipeline()
	tasks := pipe.LLen(ctx, q.keys.TaskLine(org, kind))
	known := pipe.HMGet(ctx, q.keys.TaskLines(kind), org.String(), org.String()+":weight")
	if err := redisreply.Exec(ctx, pipe); err != nil {
		return Line{}, err
	}
	line := Line{Organization: org, Tasks: tasks.Val(), Weight: 1}
	for i, to := range []*int64{&line.Bytes, &line.Weight} {
		text, _ := known.Val()[i].(string)
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			*to = n
		}
	}
	return line, nil
}

// Found is a task and its state.
type Found struct {
	Task

	// State is [Waiting], [Unread], [Held] or [Dead].
	State string
	// Deliveries is how often the task was delivered to workers.
	Deliveries int
	// Dispatched is when it was dispatched, zero if that is not known.
	Dispatched time.Time
	// Reason is why it is a dead letter.
	Reason string

	entry string // in a stream
	text  string // in a line
}

// Tasks calls fn for each task of an organization, until fn returns false: waiting tasks in their
// order, then those in the stream, then dead letters. It leaves out malformed entries.
func (q *Queues) Tasks(ctx context.Context, kind string, org orgctx.ID, fn func(Found) bool) error {
	for _, walk := range []func(context.Context, string, orgctx.ID, func(Found) bool) (bool, error){q.waiting, q.open, q.dead} {
		if more, err := walk(ctx, kind, org, fn); err != nil || !more {
			return err
		}
	}
	return nil
}

// Find returns the task with the ID. If there are several, it returns one that has not ended, or
// the newest dead letter.
func (q *Queues) Find(ctx context.Context, kind string, org orgctx.ID, id string) (Found, error) {
	var found Found
	err := q.Tasks(ctx, kind, org, func(f Found) bool {
		if f.ID == id {
			found = f
		}
		return found.State == "" || found.State == Dead
	})
	if err == nil && found.State == "" {
		err = ErrNoTask
	}
	return found, err
}

func (q *Queues) waiting(ctx context.Context, kind string, org orgctx.ID, fn func(Found) bool) (more bool, err error) {
	for start := int64(0); ; start += page {
		texts, err := q.client.LRange(ctx, q.keys.TaskLine(org, kind), start, start+page-1).Result()
		if err != nil || len(texts) == 0 {
			return true, err
		}
		for _, text := range texts {
			var flat []string
			if json.Unmarshal([]byte(text), &flat) != nil {
				continue
			}
			fields := make(map[string]string)
			for i := 0; i+1 < len(flat); i += 2 {
				fields[flat[i]] = flat[i+1]
			}
			f, ok := found(kind, org, fields, Waiting)
			if f.text = text; ok && !fn(f) {
				return false, nil
			}
		}
	}
}

func (q *Queues) open(ctx context.Context, kind string, org orgctx.ID, fn func(Found) bool) (more bool, err error) {
	return q.walk(ctx, q.keys.Tasks(kind), func(entries []redis.XMessage) (bool, error) {
		held := make(map[string]int64)
		pending, err := q.client.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: q.keys.Tasks(kind), Group: consumerGroup, Start: entries[0].ID, End: entries[len(entries)-1].ID, Count: page,
		}).Result()
		if err != nil && !strings.Contains(err.Error(), "NOGROUP") {
			return false, err
		}
		for _, p := range pending {
			held[p.ID] = p.RetryCount
		}
		for _, e := range entries {
			state := Unread
			deliveries, ok := held[e.ID]
			if ok {
				state = Held
			}
			f, ok := found(kind, org, textFields(e.Values), state)
			f.entry = e.ID
			if f.Deliveries += int(deliveries); ok && !fn(f) {
				return false, nil
			}
		}
		return true, nil
	})
}

func (q *Queues) dead(ctx context.Context, kind string, org orgctx.ID, fn func(Found) bool) (more bool, err error) {
	return q.walk(ctx, q.keys.DeadTasks(kind), func(entries []redis.XMessage) (bool, error) {
		for _, e := range entries {
			fields := textFields(e.Values)
			f, ok := found(kind, org, fields, Dead)
			f.entry, f.Reason = e.ID, fields["dead_reason"]
			f.Deliveries, _ = strconv.Atoi(fields["dead_deliveries"])
			if ok && !fn(f) {
				return false, nil
			}
		}
		return true, nil
	})
}

// walk calls fn with the entries of a stream, one page at a time.
func (q *Queues) walk(ctx context.Context, stream string, fn func([]redis.XMessage) (more bool, err error)) (more bool, err error) {
	for start := "-"; ; {
		entries, err := q.client.XRangeN(ctx, stream, start, "+", page).Result()
		if err != nil || len(entries) == 0 {
			return true, err
		}
		if more, err := fn(entries); err != nil || !more {
			return false, err
		}
		start = "(" + entries[len(entries)-1].ID
	}
}

func textFields(values map[string]any) map[string]string {
	fields := make(map[string]string, len(values))
	for name, value := range values {
		fields[name], _ = value.(string)
	}
	return fields
}

// found reads an entry. ok is false unless it is a task of the organization.
func found(kind string, org orgctx.ID, fields map[string]string, state string) (f Found, ok bool) {
	t, err := decode(kind, fields)
	if err != nil || t.Organization() != org {
		return Found{}, false
	}
	f = Found{Task: *t, State: state}
	f.Deliveries, _ = strconv.Atoi(fields[fieldBefore])
	if ms, err := strconv.ParseInt(fields[fieldDispatched], 10, 64); err == nil {
		f.Dispatched = time.UnixMilli(ms)
	}
	return f, true
}

// Retry dispatches a dead letter again, as a new task, because the old one has ended. It returns
// the new ID. Calling it twice creates one task.
func (q *Queues) Retry(ctx context.Context, f Found) (id string, err error) {
	if f.State != Dead {
		return "", ErrNotDead
	}
	t := f.Task
	t.ID, t.Idempotency = rand.Text(), "retry."+f.entry
	id, err = q.dispatcher.Dispatch(orgctx.With(ctx, t.Organization()), t)
	if err != nil {
		return "", err
	}
	return id, q.client.XDel(ctx, q.keys.DeadTasks(t.Kind), f.entry).Err()
}

// Drop ends a waiting or running task as failed, with the code [CodeDropped], and removes it. A
// worker that runs it learns of this with its next progress event. A dead letter has ended already,
// so Drop only removes it.
func (q *Queues) Drop(ctx context.Context, f Found) error {
	if f.State == Dead {
		return q.client.XDel(ctx, q.keys.DeadTasks(f.Kind), f.entry).Err()
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	// The terminal event comes first, so a worker that reads the task meanwhile sees that it has
	// ended.
	payload, err := json.Marshal(map[string]string{
		"organization_id": f.Organization().String(), "type": "task_failed", "task_id": f.ID, "code": CodeDropped,
	})
	if err != nil {
		return err
	}
	keys := []string{q.keys.TaskEnd(f.Organization(), f.Kind, f.ID), q.keys.History(f.Group)}
	ended, err := q.clocks.Run(ctx, q.finish, keys, func(latest string) []any {
		return []any{
			q.keys.GroupChannel(f.Group), payload, event.DefaultHistoryLength, event.DefaultHistoryAge.Milliseconds(),
			endFailed, DefaultMemory.Milliseconds(), latest,
		}
	}).Text()
	if err != nil {
		return fmt.Errorf("end task: %w", err)
	}
	switch f.State {
	case Waiting:
		lines := []string{q.keys.TaskRing(f.Kind), q.keys.TaskLines(f.Kind)}
		err = q.drop.Run(ctx, q.client, lines, f.Organization().String(), f.text).Err()
	case Unread:
		err = q.client.XDel(ctx, q.keys.Tasks(f.Kind), f.entry).Err()
	}
	if err == nil && ended != endFailed {
		err = ErrTaskEnded
	}
	return err // a worker that holds it will find that it has ended
}
