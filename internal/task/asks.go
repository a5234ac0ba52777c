package task

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
)

const (
	// MaxInput is the longest answer of a person, in bytes.
	MaxInput = 64 << 10
	// DefaultAskLife is how long a question waits for its answer, and the answer for its reader.
	DefaultAskLife = 24 * time.Hour
	// Wait looks for an answer often at first, then every second, because people take longer.
	firstLook, lastLook = 50 * time.Millisecond, time.Second
)

// The errors that clients see, as stable codes.
var (
	// ErrAskNotFound is returned for a question that was never asked, is closed, or belongs to
	// another organization. These cases look alike.
	ErrAskNotFound = errors.New("task: no such request for input")
	// ErrAskAnswered is returned to members of the question's own organization who answer it again.
	ErrAskAnswered = errors.New("task: request for input has been answered")
	// ErrAskInput is returned for input that is not UTF-8 or longer than [MaxInput].
	ErrAskInput = errors.New("task: input must be UTF-8 and not too long")
)

// Asks are questions to people. A task opens a question and waits, and someone of the same
// organization answers it once. A question is identified by the organization of the context, an
// execution and the index of a step in it. Clients cannot name keys. Methods refuse a context
// without organization with [orgctx.ErrNoOrganization]. Asks is safe for concurrent use.
type Asks struct {
	client       redis.Cmdable
	keys         keyspace.Keyspace
	open, answer *redis.Script
}

// NewAsks returns the questions. The caller closes the client.
func NewAsks(client redis.Cmdable, keys keyspace.Keyspace) (*Asks, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	return &Asks{client: client, keys: keys, open: script("ask"), answer: script("answer")}, nil
}

// key returns the key of a question.
func (a *Asks) key(ctx context.Context, execution string, taskIndex int) (string, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return "", orgctx.ErrNoOrganization
	}
	if !orgctx.ValidID(execution) || taskIndex < 0 || taskIndex > math.MaxInt32 {
		return "", ErrAskNotFound
	}
	return a.keys.Ask(org, execution, taskIndex), nil
}

// Open asks a question. prompt is any JSON for the page to show. A life of 0 means
// [DefaultAskLife]. A question that was asked before stays unchanged, answered or not, and opened
// is false. So a task that is tried again opens it again and finds the answer given in between.
func (a *Asks) Open(ctx context.Context, execution string, taskIndex int, prompt json.RawMessage, life time.Duration) (opened bool, err error) {
	key, err := a.key(ctx, execution, taskIndex)
	if errors.Is(err, ErrAskNotFound) {
		return false, fmt.Errorf("%w: execution or task index", ErrMalformed)
	}
	if err != nil {
		return false, err
	}
	if len(prompt) > MaxPayload || !utf8.Valid(prompt) || !json.Valid(prompt) {
		return false, fmt.Errorf("%w: prompt", ErrMalformed)
	}
	life = cmp.Or(life, DefaultAskLife)
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	done, err := a.open.Run(ctx, a.client, []string{key}, string(prompt), max(life.Milliseconds(), 1)).Int()
	if err != nil {
		return false, fmt.Errorf("open request for input: %w", err)
	}
	return done == 1, nil
}

// Prompt returns the prompt of an open question, for the first state of a page. If it is not open,
// the error is [ErrAskAnswered] or [ErrAskNotFound].
func (a *Asks) Prompt(ctx context.Context, execution string, taskIndex int) (json.RawMessage, error) {
	prompt, _, answered, err := a.read(ctx, execution, taskIndex)
	if err == nil && answered {
		err = ErrAskAnswered
	}
	return prompt, err
}

// Answer gives the input that an open question waits for. The first of several answers counts.
func (a *Asks) Answer(ctx context.Context, execution string, taskIndex int, input string) error {
	return a.AnswerOnce(ctx, execution, taskIndex, input, "")
}

// AnswerOnce is Answer with a key: the answer that counts may be repeated with its key without an
// error.
func (a *Asks) AnswerOnce(ctx context.Context, execution string, taskIndex int, input, answerKey string) error {
	key, err := a.key(ctx, execution, taskIndex)
	if err != nil {
		return err
	}
	if len(input) > MaxInput || !utf8.ValidString(input) {
		return ErrAskInput
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	taken, err := a.answer.Run(ctx, a.client, []string{key}, input, answerKey).Int()
	switch {
	case err != nil:
		return fmt.Errorf("answer request for input: %w", err)
	case taken < 0:
		return ErrAskNotFound
	case taken == 0:
		return ErrAskAnswered
	}
	return nil
}

// Wait returns the answer as soon as there is one. The error is [ErrAskNotFound] if the question
// has expired or was closed, or the cause of ctx's end. The answer stays, for a task that is tried
// again.
func (a *Asks) Wait(ctx context.Context, execution string, taskIndex int) (input string, err error) {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		_, input, answered, err := a.read(ctx, execution, taskIndex)
		if err == nil && answered || errors.Is(err, ErrAskNotFound) {
			return input, err
		}
		if err != nil {
			if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
				<-ctx.Done() // the socket may notice before the context does
			}
			return "", cmp.Or(context.Cause(ctx), err)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// Close ends a question, answered or not. Closing a question that does not exist is not an error.
func (a *Asks) Close(ctx context.Context, execution string, taskIndex int) error {
	key, err := a.key(ctx, execution, taskIndex)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := a.client.Del(ctx, key).Err(); err != nil {
		return fmt.Errorf("close request for input: %w", err)
	}
	return nil
}

// read returns the stored data of a question.
func (a *Asks) read(ctx context.Context, execution string, taskIndex int) (prompt json.RawMessage, input string, answered bool, err error) {
	key, err := a.key(ctx, execution, taskIndex)
	if err != nil {
		return nil, "", false, err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	values, err := a.client.HMGet(ctx, key, "prompt", "input").Result()
	if err != nil {
		return nil, "", false, fmt.Errorf("read request for input: %w", err)
	}
	text, ok := values[0].(string)
	if !ok {
		return nil, "", false, ErrAskNotFound
	}
	input, answered = values[1].(string)
	return json.RawMessage(text), input, answered, nil
}
