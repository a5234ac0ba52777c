package pubsub

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"orgcast/clients/lua"
	"orgcast/internal/event"
)

// recordScript records and publishes in one step, so that a history has the same order as its
// channel. Programs in other languages load the same file.
var recordScript = redis.NewScript(lua.Text("record.v1")) //nolint:gochecknoglobals // constant

// Record publishes a payload that is also kept in the group's history, and returns its position
// there. It returns the errors of [Publisher.Publish], and [event.ErrInvalidIdempotencyKey]. A
// Record that timed out does not take effect later, for example when a hung server wakes up. With
// an idempotency key, it is safe to repeat.
func (p *Publisher) Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error) {
	result := p.PublishAll(ctx, []event.Publication{{Group: g, Payload: payload, Record: &o}})[0]
	return result.Position, result.Err
}

// recorded parses the answer of the script into a receipt: the position and, unless the idempotency
// key had been used, the number of nodes to which Redis passed the event.
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

// errRecordAnswer means that the server does not run the script as Redis does.
var errRecordAnswer = errors.New("unexpected answer of the recording script")

// recordCall says how the script is called. latest is the last moment at which the server may run it,
// by the server's clock. whole sends the text of the script, and from then on Redis knows its hash.
// trace is the span that publishes the event.
type recordCall struct {
	latest string
	whole  bool
	trace  event.Trace
}

// record queues the script in a pipeline.
func (p *Publisher) record(ctx context.Context, pipe redis.Pipeliner, out event.Publication, call recordCall) *redis.Cmd {
	o := out.Record.WithDefaults()
	keys := []string{p.keys.History(out.Group)}
	if o.IdempotencyKey != "" {
		keys = append(keys, p.keys.Once(out.Group, o.IdempotencyKey))
	}
	args := []any{p.keys.GroupChannel(out.Group), out.Payload, o.MaxLength, o.MaxAge.Milliseconds(), call.latest, "reach"}
	if !call.trace.IsZero() {
		args = append(args, call.trace.String())
	}
	if call.whole {
		return recordScript.Eval(ctx, pipe, keys, args...)
	}
	return recordScript.EvalSha(ctx, pipe, keys, args...)
}
