package pubsub

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"orgcast/internal/event"

	"github.com/redis/go-redis/v9"
)

// recordLua records and publishes in one step, so that the order of a history is the order of its
// channel. Programs in other languages load the same file.
//
//go:embed record.lua
var recordLua string

// recordScript holds the script with its hash.
var recordScript = redis.NewScript(recordLua) //nolint:gochecknoglobals // constant

// Record publishes a payload that is also kept in the group's history, and returns its position
// there. Errors are those of [Redis.Publish], and [event.ErrInvalidIdempotencyKey]. A Record that failed
// is not carried out later, as by a server that hung and wakes up. With an idempotency key it can be
// repeated without harm.
func (r *Redis) Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error) {
	result := r.PublishAll(ctx, []event.Publication{{Group: g, Payload: payload, Record: &o}})[0]
	return result.Position, result.Err
}

// recorded reads the answer of the script into a receipt: the position and, unless the idempotency key had been used, how
// many nodes Redis passed the event on to.
func recorded(r *event.Receipt, script *redis.Cmd) error {
	answer, err := script.Slice()
	if err != nil {
		return err
	}
	if len(answer) == 0 || len(answer) > 2 {
		return errRecordAnswer
	}
	text, _ := answer[0].(string)
	if r.Position, err = event.ParsePosition(text); err != nil {
		return err
	}
	if r.Repeated = len(answer) == 1; r.Repeated {
		return nil
	}
	nodes, ok := answer[1].(int64)
	if !ok {
		return errRecordAnswer
	}
	r.Nodes = nodes
	return nil
}

// errRecordAnswer is of a server that does not run the script as Redis does.
var errRecordAnswer = errors.New("unexpected answer of the recording script")

// Recorded returns the position of the event that was recorded for the group under an idempotency key. ok is
// false if there is none, or if the key has expired.
func (r *Redis) Recorded(ctx context.Context, g event.Group, key string) (at event.Position, ok bool, err error) {
	if !event.ValidIdempotencyKey(key) {
		return event.Position{}, false, event.ErrInvalidIdempotencyKey
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.HistoryTimeout)
	defer cancel()
	text, err := r.client.Get(ctx, r.keys.Once(g, key)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return event.Position{}, false, nil
	case err != nil:
		return event.Position{}, false, fmt.Errorf("find what was recorded for %s: %w", g, err)
	}
	at, err = event.ParsePosition(text)
	return at, err == nil, err
}

// record queues the script in a pipeline. latest is the last moment at which it may be carried out, by the
// clock of its server. whole sends its text, which Redis then knows by its hash.
func (r *Redis) record(ctx context.Context, pipe redis.Pipeliner, out event.Publication, latest string, whole bool) *redis.Cmd {
	o := out.Record.WithDefaults()
	keys := []string{r.keys.History(out.Group)}
	if o.IdempotencyKey != "" {
		keys = append(keys, r.keys.Once(out.Group, o.IdempotencyKey))
	}
	args := []any{r.keys.GroupChannel(out.Group), out.Payload, o.MaxLength, o.MaxAge.Milliseconds(), latest, "reach"}
	if whole {
		return recordScript.Eval(ctx, pipe, keys, args...)
	}
	return recordScript.EvalSha(ctx, pipe, keys, args...)
}
