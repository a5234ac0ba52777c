package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redisreply"
)

// Revocations is the list of those who are shut out although what their browsers hold is good:
// sessions that were ended, and users who were disabled. For sessions in signed cookies it is the
// only record on the server. Each entry is a key in Redis that counts while it exists, whatever its
// value. Methods wait for Redis, for at most [DefaultTimeout], and are safe for concurrent use.
type Revocations struct {
	client redis.Cmdable
	keys   keyspace.Keyspace
}

// NewRevocations returns the list. It refuses a client that keeps no deadlines.
func NewRevocations(client redis.Cmdable, keys keyspace.Keyspace) (*Revocations, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return &Revocations{client: client, keys: keys}, nil
}

// EndSession shuts out the session with the ID for so long, which must be at least as long as the
// session could still last.
func (v *Revocations) EndSession(ctx context.Context, id string, life time.Duration) error {
	if !orgctx.ValidID(id) {
		return fmt.Errorf("session: %w", orgctx.ErrInvalidID)
	}
	return v.put(ctx, v.keys.SessionEnded(id), life)
}

// DisableUser shuts out all sessions of a user, in every organization, until someone deletes the
// key.
func (v *Revocations) DisableUser(ctx context.Context, user string) error {
	if !orgctx.ValidUserID(user) {
		return fmt.Errorf("session: %w", orgctx.ErrInvalidUserID)
	}
	return v.put(ctx, v.keys.UserDisabled(user), 0)
}

func (v *Revocations) put(ctx context.Context, key string, life time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	if err := v.client.Set(ctx, key, "1", life).Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// CheckUser returns [ErrDisabled] if a user is shut out, and [ErrUnavailable] if Redis does not say.
func (v *Revocations) CheckUser(ctx context.Context, user string) error {
	if !orgctx.ValidUserID(user) {
		return fmt.Errorf("session: %w", orgctx.ErrInvalidUserID)
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	switch n, err := v.client.Exists(ctx, v.keys.UserDisabled(user)).Result(); {
	case err != nil:
		return unavailable(err)
	case n > 0:
		return ErrDisabled
	default:
		return nil
	}
}

// Check says of each session whether its holder is shut out: nil, [ErrEnded], [ErrDisabled] or
// [ErrUnavailable]. It takes one round trip as long as nobody is.
func (v *Revocations) Check(ctx context.Context, held []Held) []error {
	errs := make([]error, len(held))
	if len(held) == 0 {
		return errs
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	names := make([]string, 0, 2*len(held))
	for i := range held {
		names = append(names, v.keys.SessionEnded(held[i].Identity.SessionID), v.keys.UserDisabled(held[i].Identity.UserID))
	}
	// One command for all is by far the cheapest, where all names are on one server.
	if _, single := v.client.(*redis.Client); single {
		if n, err := v.client.Exists(ctx, names...).Result(); n == 0 || err != nil {
			for i := range errs {
				errs[i] = wrapUnavailable(err)
			}
			return errs
		}
	}
	found := make([]*redis.IntCmd, len(names))
	pipe := v.client.Pipeline()
	for i, name := range names {
		found[i] = pipe.Exists(ctx, name)
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	for i := range errs {
		ended, disabled := found[2*i], found[2*i+1]
		switch {
		case ended.Val() > 0:
			errs[i] = ErrEnded
		case disabled.Val() > 0:
			errs[i] = ErrDisabled
		default:
			errs[i] = wrapUnavailable(errors.Join(ended.Err(), disabled.Err()))
		}
	}
	return errs
}

func wrapUnavailable(err error) error {
	if err == nil {
		return nil
	}
	return unavailable(err)
}

// Revocable is a Store that also asks Revocations.
type Revocable struct {
	Store

	Revocations *Revocations
}

var _ Store = Revocable{}

// Resolve implements [Resolver].
func (s Revocable) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	id, err := s.Store.Resolve(ctx, r)
	if err == nil {
		err = s.Revocations.Check(ctx, []Held{{Identity: id}})[0]
	}
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// Recheck implements [Store].
func (s Revocable) Recheck(ctx context.Context, held []Held) []Standing {
	out := s.Store.Recheck(ctx, held)
	for i, err := range s.Revocations.Check(ctx, held) {
		// What is known for certain wins over what nobody could say.
		if err != nil && (out[i].Err == nil || errors.Is(out[i].Err, ErrUnavailable)) {
			out[i] = Standing{Err: err}
		}
	}
	return out
}
