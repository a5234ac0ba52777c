package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/gather"
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
	// together asks for handshakes. It is nil in a Cluster, where the answers of an unreachable
	// server would keep the others waiting.
	together *gather.Gatherer[holder, error]
}

// holder is who may be shut out.
type holder struct{ session, user string }

// NewRevocations returns the list. It refuses a client that keeps no deadlines.
func NewRevocations(client redis.Cmdable, keys keyspace.Keyspace) (*Revocations, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	v := &Revocations{client: client, keys: keys}
	if _, single := client.(*redis.Client); single {
		v.together = gather.New(gather.Options[holder, error]{Call: v.check, Most: maxTogether, Patience: patience})
	}
	return v, nil
}

const (
	// maxTogether is how many handshakes share a question to Redis, and patience how long one waits
	// for the answers to earlier ones.
	maxTogether = 128
	patience    = 50 * time.Millisecond
)

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
	list := make([]holder, len(held))
	for i := range held {
		list[i] = holderOf(&held[i].Identity)
	}
	return v.check(ctx, list)
}

// checkOne is Check for a handshake. Those that come at the same time share round trips.
func (v *Revocations) checkOne(ctx context.Context, id *Identity) error {
	if v.together == nil {
		return v.check(ctx, []holder{holderOf(id)})[0]
	}
	revoked, err := v.together.Ask(ctx, holderOf(id))
	if err != nil { // nobody has answered
		return unavailable(err)
	}
	return revoked
}

func holderOf(id *Identity) holder { return holder{id.SessionID, id.UserID} }

// check implements Check.
func (v *Revocations) check(ctx context.Context, list []holder) []error {
	errs := make([]error, len(list))
	if len(list) == 0 {
		return errs
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	names := make([]string, 0, 2*len(list))
	for i := range list {
		names = append(names, v.keys.SessionEnded(list[i].session), v.keys.UserDisabled(list[i].user))
	}
	// One command for all is by far the cheapest, where all names are on one server.
	if _, single := v.client.(*redis.Client); single {
		n, err := v.client.Exists(ctx, names...).Result()
		if _, answered := errors.AsType[redis.Error](err); n == 0 && !answered { // else each is asked about by itself
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

var (
	_ Store   = Revocable{}
	_ Native  = Revocable{}
	_ Renewer = Revocable{}
)

// Resolve implements [Resolver].
func (s Revocable) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	id, err := s.Store.Resolve(ctx, r)
	if err == nil {
		err = s.Revocations.checkOne(ctx, &id)
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

// Renew implements [Renewer]. Nobody who is shut out prolongs a session.
func (s Revocable) Renew(ctx context.Context, h Held, token string) (ticket string, standing Standing, err error) {
	r, ok := s.Store.(Renewer)
	if !ok {
		return "", Standing{}, ErrNotRenewable
	}
	if ticket, standing, err = r.Renew(ctx, h, token); err == nil {
		err = s.Revocations.Check(ctx, []Held{h})[0]
	}
	if err != nil {
		return "", Standing{}, err
	}
	return ticket, standing, nil
}

// Native implements [Native].
func (s Revocable) Native(r *http.Request) bool {
	store, ok := s.Store.(Native)
	return ok && store.Native(r)
}
