package pubsub

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"orgcast/clients/lua"
	"orgcast/internal/event"
)

// recordScript records and publishes in one step, so that the order of a history is the order of
// its channel. Programs in other languages load the same file.
var recordScript = redis.NewScript(lua.Text("record.v1")) //nolint:gochecknoglobals // constant

// Record publishes a payload that is also kept in the group's history, and returns its position
// there. Errors are those of [Publisher.Publish], and [event.ErrInvalidIdempotencyKey]. A Record
// that failed is not carried out later, as by a server that hung and wakes up. With an idempotency
// key it can be repeated without harm.
func (p *Publisher) Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error) {
	result := p.PublishAll(ctx, []event.Publication{{Group: g, Payload: payload, Record: &o}})[0]
	return result.Position, result.Err
}

// recorded reads the answer of the script into a receipt: the position and, unless the idempotency
// key had been used, how many nodes Redis passed the event on to.
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

// record queues the script in a pipeline. latest is the last moment at which it may be carried out,
// by the clock of its server. whole sends its text, which Redis then knows by its hash.
func (p *Publisher) record(ctx context.Context, pipe redis.Pipeliner, out event.Publication, latest string, whole bool) *redis.Cmd {
	o := out.Record.WithDefaults()
	keys := []string{p.keys.History(out.Group)}
	if o.IdempotencyKey != "" {
		keys = append(keys, p.keys.Once(out.Group, o.IdempotencyKey))
	}
	args := []any{p.keys.GroupChannel(out.Group), out.Payload, o.MaxLength, o.MaxAge.Milliseconds(), latest, "reach"}
	if whole {
		return recordScript.Eval(ctx, pipe, keys, args...)
	}
	return recordScript.EvalSha(ctx, pipe, keys, args...)
}
