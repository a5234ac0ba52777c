package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// MaxStored is the largest value in a [Store], in bytes.
const MaxStored = 1 << 20

var (
	// ErrInvalidName is returned for a name that does not satisfy [event.ValidGroupName].
	ErrInvalidName = errors.New("task: name must be 1 to 100 characters of A-Z a-z 0-9 _ . -")
	// ErrNotStored is returned for a name without a value.
	ErrNotStored = errors.New("task: nothing is stored under this name")
	// ErrTooLarge is returned for values larger than a limit.
	ErrTooLarge = errors.New("task: value is larger than the limit")
)

// Store keeps values of one organization under short names. No name reaches another organization:
// package keyspace makes the key from the organization and the name. A Store that outlives its task
// and is used for another organization returns [ErrForeign]. It is safe for concurrent use.
type Store struct {
	client redis.Cmdable
	keys   keyspace.Keyspace
	org    orgctx.ID
}

// NewStore returns the Store of the context's organization, or [orgctx.ErrNoOrganization].
func NewStore(ctx context.Context, client redis.Cmdable, keys keyspace.Keyspace) (*Store, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return nil, orgctx.ErrNoOrganization
	}
	return &Store{client: client, keys: keys, org: org}, nil
}

// key returns the key of a name.
func (s *Store) key(ctx context.Context, name string) (string, error) {
	switch org, ok := orgctx.From(ctx); {
	case !ok:
		return "", orgctx.ErrNoOrganization
	case org != s.org:
		return "", ErrForeign
	case !event.ValidGroupName(name):
		return "", ErrInvalidName
	}
	return s.keys.Stored(s.org, name), nil
}

// Get returns the value under the name, or [ErrNotStored].
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	key, err := s.key(ctx, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	value, err := s.client.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNotStored
	}
	if err != nil {
		return nil, fmt.Errorf("get from store: %w", err)
	}
	return value, nil
}

// Set stores a value for a time. 0 means forever.
func (s *Store) Set(ctx context.Context, name string, value []byte, life time.Duration) error {
	key, err := s.key(ctx, name)
	if err != nil {
		return err
	}
	if len(value) > MaxStored {
		return ErrTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := s.client.Set(ctx, key, value, max(life, 0)).Err(); err != nil {
		return fmt.Errorf("set in store: %w", err)
	}
	return nil
}

// SetNew stores a value unless the name has one, and reports whether it did. If many callers set a
// name at once, one of them succeeds.
func (s *Store) SetNew(ctx context.Context, name string, value []byte, life time.Duration) (stored bool, err error) {
	key, err := s.key(ctx, name)
	if err != nil {
		return false, err
	}
	if len(value) > MaxStored {
		return false, ErrTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err = s.client.SetArgs(ctx, key, value, redis.SetArgs{Mode: "NX", TTL: max(life, 0)}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("set in store: %w", err)
	}
	return true, nil
}

// Delete removes the value under the name, if there is one.
func (s *Store) Delete(ctx context.Context, name string) error {
	key, err := s.key(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := s.client.Del(ctx, key).Err(); err != nil {
		return fmt.Errorf("delete from store: %w", err)
	}
	return nil
}
