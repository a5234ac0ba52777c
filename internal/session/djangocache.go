package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/pickle"
	"orgcast/internal/redisclient"
	"orgcast/internal/redisreply"
)

// DjangoFormat is how Django's cache encodes sessions.
type DjangoFormat string

// Formats of [DjangoCacheOptions]. The gateway does not guess: bytes of one may look like the other.
const (
	DjangoJSON   DjangoFormat = "json"
	DjangoPickle DjangoFormat = "pickle" // what Django does by default
)

// DjangoEngine is a SESSION_ENGINE that uses a cache.
type DjangoEngine string

// Engines of [DjangoCacheOptions].
const (
	DjangoCache DjangoEngine = "cache"
	// DjangoCachedDB also keeps sessions in the database, from which Django restores a lost cache.
	DjangoCachedDB DjangoEngine = "cached_db"
)

// DjangoCacheOptions are those of [NewDjangoCacheStore].
type DjangoCacheOptions struct {
	DjangoOptions

	// Engine is the default [DjangoCache] or [DjangoCachedDB].
	Engine DjangoEngine
	// Format is the default [DjangoJSON] or [DjangoPickle].
	Format DjangoFormat
	// Prefix is KEY_PREFIX of the cache, and Version its VERSION; default 1.
	Prefix  string
	Version int
}

// DjangoCacheStore reads the sessions that Django keeps in a Redis cache. It never writes. Of pickles it reads the data and
// runs nothing.
//
// What it does not see is in Django's database: a password that was changed on another device, and a user who was
// deactivated. Only a revocation ends such a session early ([Revocations]).
//
// It is safe for concurrent use. Methods wait for Redis, for at most [DjangoOptions].Timeout.
type DjangoCacheStore struct {
	client redis.UniversalClient
	opts   DjangoCacheOptions
	prefix string // of keys in Redis
}

var _ Part = (*DjangoCacheStore)(nil)

// NewDjangoCacheStore returns a store. It refuses a client that keeps no deadlines. The caller closes the client.
func NewDjangoCacheStore(client redis.UniversalClient, o DjangoCacheOptions) (*DjangoCacheStore, error) {
	o.DjangoOptions = o.withDefaults()
	if o.Engine == "" {
		o.Engine = DjangoCache
	}
	if o.Format == "" {
		o.Format = DjangoJSON
	}
	if o.Version == 0 {
		o.Version = 1
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	switch {
	case o.Engine != DjangoCache && o.Engine != DjangoCachedDB:
		return nil, fmt.Errorf("session: Engine must be %s or %s", DjangoCache, DjangoCachedDB)
	case o.Format != DjangoJSON && o.Format != DjangoPickle:
		return nil, fmt.Errorf("session: Format must be %s or %s", DjangoJSON, DjangoPickle)
	}
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	prefix := o.Prefix + ":" + strconv.Itoa(o.Version) + ":django.contrib.sessions." + string(o.Engine)
	return &DjangoCacheStore{client: client, opts: o, prefix: prefix}, nil
}

// validDjangoKey reports whether text has the form of a key that Django makes. Django itself takes any text of
// eight characters; but names of other things in the cache must not pass.
func validDjangoKey(text string) bool {
	return len(text) == 32 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// key returns the session key that a request bears, or [ErrNone] or [ErrInvalid].
func (s *DjangoCacheStore) key(r *http.Request) (string, error) {
	key, ok := CookieValue(r, s.opts.Cookie)
	if !ok || key == "" {
		return "", ErrNone
	}
	if !validDjangoKey(key) {
		return "", unreadable(key)
	}
	return key, nil
}

// Bears implements [Bearer].
func (s *DjangoCacheStore) Bears(r *http.Request) bool {
	value, _ := CookieValue(r, s.opts.Cookie)
	return value != ""
}

// Ticket implements [Store]: it is the session key.
func (s *DjangoCacheStore) Ticket(r *http.Request) string {
	key, _ := s.key(r)        // without one Recheck finds none
	return strings.Clone(key) // not the whole header with it
}

// Resolve implements [Resolver].
func (s *DjangoCacheStore) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	key, err := s.key(r)
	if err != nil {
		return Identity{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	e := s.fetch(ctx, pipe, key)
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	id, err := s.identity(e)
	if err != nil {
		return Identity{}, err
	}
	id.SessionID = DeriveID(key)
	return id, nil
}

// Recheck implements [Store], in one round trip. A session that is gone is [ErrStale], because Django gives a session
// another key at login and when the password changes. With [DjangoCachedDB] it is [ErrUncached].
func (s *DjangoCacheStore) Recheck(ctx context.Context, held []Held) []Standing {
	out := make([]Standing, len(held))
	entries := make(map[string]cacheEntry, len(held)) // several connections may share a session
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	for _, h := range held {
		if _, asked := entries[h.Ticket]; !asked && h.Ticket != "" {
			entries[h.Ticket] = s.fetch(ctx, pipe, h.Ticket)
		}
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	for i, h := range held {
		out[i] = Standing{Err: ErrNone}
		if e, ok := entries[h.Ticket]; ok {
			out[i] = h.judge(s.identity(e))
		}
		if errors.Is(out[i].Err, ErrNone) || errors.Is(out[i].Err, ErrExpired) {
			out[i].Err = ErrStale
		}
	}
	return out
}

// cacheEntry is the answers about one key.
type cacheEntry struct {
	value *redis.StringCmd
	left  *redis.DurationCmd
}

func (s *DjangoCacheStore) fetch(ctx context.Context, pipe redis.Pipeliner, key string) cacheEntry {
	name := s.prefix + key
	// GETRANGE, so that an absurdly large value does not come over the wire.
	return cacheEntry{value: pipe.GetRange(ctx, name, 0, maxSessionSize), left: pipe.PTTL(ctx, name)}
}

// identity returns what the answers say.
func (s *DjangoCacheStore) identity(e cacheEntry) (Identity, error) {
	value, err := e.value.Result()
	if err != nil {
		return Identity{}, unavailable(err)
	}
	left, err := e.left.Result()
	if err != nil {
		return Identity{}, unavailable(err)
	}
	if value == "" {
		if s.opts.Engine == DjangoCachedDB {
			return Identity{}, ErrUncached
		}
		return Identity{}, ErrNone
	}
	get, err := s.decode(value)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{}
	if id.UserID, id.Organization, err = s.opts.person(get); err != nil {
		return Identity{}, err
	}
	if left == -2 { // it is gone by now; go-redis has nanoseconds
		return Identity{}, ErrExpired
	}
	if left < 0 { // it never ends
		left = s.opts.MaxAge
	}
	id.Expires = s.opts.Now().Add(left)
	return id, nil
}

// decode returns a function that looks up fields of a session.
func (s *DjangoCacheStore) decode(value string) (get func(name string) (any, bool), err error) {
	if s.opts.Format == DjangoJSON {
		d, err := parseDocument(value)
		if err != nil && strings.HasPrefix(value, "\x80") {
			return nil, fmt.Errorf("%w: it is pickled, not JSON: see --django-cache-format", ErrInvalid)
		}
		return d.get, err
	}
	dict, err := pickle.ReadDict([]byte(value))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return func(name string) (any, bool) {
		v, ok := dict.Items[name]
		if n, isBig := v.(*big.Int); isBig {
			return json.Number(n.String()), ok
		}
		return v, ok
	}, nil
}
