package task

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// next returns an entry, or nil if none comes for a while.
func (q *queue) next(ctx context.Context) (*entry, error) {
	q.waits(time.Now().Add(q.opt.Poll)) // before dispatchers are told
	defer q.waits(time.Time{})
	e, err := q.look(ctx, q.opt.Poll)
	if e != nil || err != nil || q.eager() {
		return e, err
	}
	// An entry that Redis delivers must not be lost, so the end of ctx does not interrupt the
	// command.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.opt.Poll+redisTimeout)
	defer cancel()
	streams, err := q.client.XReadGroup(asking, &redis.XReadGroupArgs{
		Group: consumerGroup, Consumer: q.opt.Name, Streams: []string{q.stream, ">"}, Count: 1, Block: q.opt.Poll,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil //nolint:nilnil // an empty queue is not an error
	case err != nil:
		return nil, q.createGroup(ctx, err)
	case len(streams) == 0 || len(streams[0].Messages) == 0:
		return nil, nil //nolint:nilnil // an empty queue is not an error
	}
	m := streams[0].Messages[0]
	e = &entry{id: m.ID, deliveries: 1, fields: make(map[string]string, len(m.Values))}
	for name, value := range m.Values {
		e.fields[name], _ = value.(string)
	}
	e.complete()
	return e, nil
}

// waits records until when run may wait for an entry of the stream.
func (q *queue) waits(until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = until
}

// look returns an entry if there is one now, else nil. wait is how long the caller will wait for
// one afterwards, which dispatchers must know. It is 0 if the caller will not wait.
func (q *queue) look(ctx context.Context, wait time.Duration) (*entry, error) {
	if q.takeOverDue() {
		e, err := q.takeOver(ctx)
		if err = q.createGroup(ctx, err); e != nil || err != nil {
			return e, err
		}
	}
	if q.eager() {
		wait = 0
	}
	made := false // the stream and its consumer group were created
	for {
		e, more, err := q.read(ctx, wait)
		if err != nil && !made {
			made = true
			if err = q.createGroup(ctx, err); err == nil {
				continue
			}
		}
		if e != nil || err != nil || !more {
			return e, err
		}
	}
}

// takeOverDue reports whether it is time to look for entries to take over. While there are some,
// they alternate with new ones, so that an organization whose tasks keep failing does not hold up
// the tasks of others.
func (q *queue) takeOverDue() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.found:
		q.found, q.looked = false, time.Time{}
		return false
	case time.Since(q.looked) < q.opt.Poll:
		return false
	}
	q.looked = time.Now()
	return true
}

// eager reports whether there may be more entries to take over, in which case run should not wait
// for new entries.
func (q *queue) eager() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.found || q.looked.IsZero()
}

// takeOver claims an entry whose worker is silent, or whose next attempt is due.
func (q *queue) takeOver(ctx context.Context) (*entry, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := q.take.Run(ctx, q.client, []string{q.stream}, consumerGroup, q.opt.Name, q.opt.Takeover.Milliseconds()).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // an empty queue is not an error
	}
	if err != nil || len(answer) != 3 {
		return nil, err
	}
	q.metrics.takenOver.WithLabelValues(q.name).Inc()
	q.mu.Lock()
	q.found = true
	q.mu.Unlock()
	id, _ := answer[0].(string)
	deliveries, _ := answer[1].(int64)
	flat, _ := answer[2].([]any)
	return newEntry(id, int(deliveries), flat), nil
}

// read returns the next entry of the stream and of the lines. It skips organizations that have
// their full share of this worker. If it returns none, more says that there may be one
// nevertheless.
func (q *queue) read(ctx context.Context, wait time.Duration) (e *entry, more bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	keys := []string{q.stream, q.keys.TaskRing(q.name), q.keys.TaskLines(q.name), q.keys.TaskIdle(q.name)}
	anyway := time.Duration(0)
	if wait == 0 {
		q.mu.Lock()
		anyway = max(time.Until(q.waiting), 0)
		q.mu.Unlock()
	}
	args := append([]any{consumerGroup, q.opt.Name, wait.Milliseconds(), anyway.Milliseconds()}, q.passed()...)
	answer, err := q.nextEntry.Run(ctx, q.client, keys, args...).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil || len(answer) != 2 {
		return nil, false, err
	}
	id, _ := answer[0].(string)
	flat, _ := answer[1].([]any)
	if id == "" {
		return nil, true, nil
	}
	return newEntry(id, 1, flat), false, nil
}

// putBack returns an entry that was not started to its organization's line, or leaves it in the
// stream if the line is full.
func (q *queue) putBack(ctx context.Context, e *entry) {
	var taken int
	err := q.persist(ctx, func(ctx context.Context) (err error) {
		keys := []string{q.stream, q.keys.TaskRing(q.name), q.keys.TaskLines(q.name)}
		taken, err = q.back.Run(ctx, q.client, keys, consumerGroup, q.opt.Name, e.id, e.org.String(), e.attempts()-1).Int()
		return err
	})
	switch {
	case err != nil:
		q.log.Warn("task not put back, another worker takes it over later", zap.Error(err))
	case taken == 0:
		q.giveBack(ctx, q.log, e, &again{delay: q.opt.Poll, deliveries: e.deliveries - 1})
	}
}

// createGroup creates the stream and its consumer group if err says that they are missing, as at
// the beginning or after Redis has lost its data. It returns any other error.
func (q *queue) createGroup(ctx context.Context, err error) error {
	if err == nil || !strings.Contains(err.Error(), "NOGROUP") {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = q.client.XGroupCreateMkStream(ctx, q.stream, consumerGroup, "0").Err()
	if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return nil // another worker was faster
	}
	return err
}

// leave removes this worker from the list of consumers, together with consumers that have
// disappeared.
func (q *queue) leave(ctx context.Context) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_ = q.tidy.Run(ctx, q.client, []string{q.stream}, consumerGroup, goneAfter.Milliseconds(), q.opt.Name).Err() // the next worker repeats it
}
