package task

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
)

// RequestLife is how long a request id counts: a little more than a day, so that it outlives the
// event that was recorded with it.
const RequestLife = DefaultKeyLife + time.Minute

var (
	// ErrConflict is returned for a request id that the user has already used for something else.
	ErrConflict = errors.New("task: request id was used for something else")
	// ErrNoUser is returned if a user is needed and the context carries none.
	ErrNoUser = errors.New("task: no user in context")
)

// Requests remembers users' requests, so that a repeated request is the same work. A request id
// belongs to the organization and the user of the context, so two users may use the same one.
// Requests is safe for concurrent use.
type Requests struct {
	client      redis.Cmdable
	keys        keyspace.Keyspace
	begin, note *redis.Script
}

// Request is a user's request.
type Request struct {
	// Work is the id of the work for the request.
	Work string
	// Done says that the work was dispatched. Until then, a repeated request dispatches it again,
	// with the same id.
	Done bool
	// New says that this is the first request with the id.
	New bool

	key, fingerprint string
}

// NewRequests returns the requests. The caller closes the client.
func NewRequests(client redis.Cmdable, keys keyspace.Keyspace) (*Requests, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("task: %w", err)
	}
	return &Requests{client: client, keys: keys, begin: script("request"), note: script("note")}, nil
}

// Begin returns the request that the context's user made with the id, or a new one if there is
// none. The error is [ErrConflict] if that request has different content, [ErrMalformed] for an id
// that does not satisfy [orgctx.ValidID], [orgctx.ErrNoOrganization], [ErrNoUser], or an error of
// Redis.
func (r *Requests) Begin(ctx context.Context, id string, content []byte) (Request, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return Request{}, orgctx.ErrNoOrganization
	}
	user, ok := orgctx.UserFrom(ctx)
	if !ok {
		return Request{}, ErrNoUser
	}
	if !orgctx.ValidID(id) {
		return Request{}, fmt.Errorf("%w: request id", ErrMalformed)
	}
	sum := sha256.Sum256(content)
	made := Request{Work: rand.Text(), key: r.keys.Request(org, string(user), id), fingerprint: hex.EncodeToString(sum[:16])}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	answer, err := r.begin.Run(ctx, r.client, []string{made.key}, made.fingerprint, made.Work, RequestLife.Milliseconds()).Slice()
	if err != nil || len(answer) != 2 {
		return Request{}, fmt.Errorf("begin request: %w", err)
	}
	text, _ := answer[0].(string)
	fingerprint, rest, _ := strings.Cut(text, " ")
	if fingerprint != made.fingerprint {
		return Request{}, ErrConflict
	}
	var done string
	made.Work, done, _ = strings.Cut(rest, " ")
	made.Done = done != ""
	made.New = answer[1] == int64(1)
	return made, nil
}

// Done records that the work was dispatched, so that repeated requests do not dispatch it again.
func (r *Requests) Done(ctx context.Context, q Request) error {
	return r.replace(ctx, q, q.Work+" done")
}

// Again records that the work failed before it was dispatched, so that a repeated request begins
// new work with a new id.
func (r *Requests) Again(ctx context.Context, q Request) error {
	return r.replace(ctx, q, rand.Text())
}

// replace replaces the stored request, unless another attempt has done so.
func (r *Requests) replace(ctx context.Context, q Request, text string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	prefix := q.fingerprint + " "
	if err := r.note.Run(ctx, r.client, []string{q.key}, prefix+q.Work, prefix+text).Err(); err != nil {
		return fmt.Errorf("note request: %w", err)
	}
	return nil
}
