package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redisreply"
)

const (
	keyBytes = 32 // random bytes of a key; nobody guesses 256 bits
	// changeAttempts is how often a change is tried that others keep interfering with.
	changeAttempts = 5
)

// keyEncoding is strict, so that one key has one spelling.
var keyEncoding = base64.RawURLEncoding.Strict() //nolint:gochecknoglobals // a constant in all but name

// RedisStore keeps sessions in Redis as JSON objects; the cookie holds a random key of 32 bytes,
// base64url. The object has user_id and active_organization_id (text or integer), expires_at (Unix
// seconds, required) and whatever else the web application put there.
//
// The store is also a [sessions.Store], for web applications in Go. A key that a client brought is
// only ever looked up, never written to unless the store made it, so nobody can plant a session.
//
// It is safe for concurrent use. Methods wait for Redis, for at most [Options].Timeout.
type RedisStore struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace
	opts   Options
}

var (
	_ Store          = (*RedisStore)(nil)
	_ sessions.Store = (*RedisStore)(nil)
)

// NewRedisStore returns a store. It refuses a client that keeps no deadlines. The caller closes the client.
func NewRedisStore(client redis.UniversalClient, keys keyspace.Keyspace, o Options) (*RedisStore, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return &RedisStore{client: client, keys: keys, opts: o}, nil
}

// DeriveID returns the SessionID of a session with the secret key: base64url without padding of
// SHA-256("orgcast-session-id:" + key). Any program that holds the key can so name the session
// in a revocation, and nobody can log in with that name.
func DeriveID(key string) string {
	sum := sha256.Sum256([]byte("orgcast-session-id:" + key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// validKey reports whether text has the form of a key that this store made.
func validKey(text string) bool {
	// Of base64 characters: the decoder would skip line ends.
	if len(text) != keyEncoding.EncodedLen(keyBytes) || strings.ContainsAny(text, "\r\n") {
		return false
	}
	_, err := keyEncoding.DecodeString(text)
	return err == nil
}

// requestKey returns the key that the request bears, or [ErrNone] or [ErrInvalid].
func requestKey(r *http.Request, name string) (string, error) {
	key, ok := firstCookie(r, name)
	if !ok || key == "" {
		return "", ErrNone
	}
	if !validKey(key) {
		return "", unreadable(key)
	}
	return key, nil
}

// Resolve implements [Resolver].
func (s *RedisStore) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	key, err := requestKey(r, s.opts.Name)
	if err != nil {
		return Identity{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	d, err := s.load(ctx, s.client, key)
	if err != nil {
		return Identity{}, err
	}
	id, err := d.identity(s.opts.Now())
	if err != nil {
		return Identity{}, err
	}
	id.SessionID = DeriveID(key)
	return id, nil
}

// Bears implements [Bearer].
func (s *RedisStore) Bears(r *http.Request) bool {
	value, _ := firstCookie(r, s.opts.Name)
	return value != ""
}

// Ticket implements [Store]: it is the key.
func (s *RedisStore) Ticket(r *http.Request) string {
	key, _ := requestKey(r, s.opts.Name) // without one Recheck finds none
	return strings.Clone(key)            // not the whole header with it
}

// Recheck implements [Store], in one round trip.
func (s *RedisStore) Recheck(ctx context.Context, held []Held) []Standing {
	out := make([]Standing, len(held))
	texts := make(map[string]*redis.StringCmd, len(held)) // several connections may share a session
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	for _, h := range held {
		if texts[h.Ticket] == nil && validKey(h.Ticket) {
			texts[h.Ticket] = pipe.GetRange(ctx, s.keys.Session(h.Ticket), 0, maxSessionSize)
		}
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	now := s.opts.Now()
	for i, h := range held {
		out[i] = Standing{Err: ErrNone}
		if cmd := texts[h.Ticket]; cmd != nil {
			d, err := read(cmd)
			var id Identity
			if err == nil {
				id, err = d.identity(now)
			}
			out[i] = h.judge(id, err)
		}
	}
	return out
}

// Mint stores a new session and returns its cookie.
func (s *RedisStore) Mint(ctx context.Context, g Grant) (*http.Cookie, error) {
	life, end, err := s.opts.check(g)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{fieldUser: g.UserID, fieldExpires: end.Unix()}
	if !g.Organization.IsZero() {
		fields[fieldOrganization] = g.Organization.String()
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	key, err := s.create(ctx, string(text), life)
	if err != nil {
		return nil, err
	}
	return s.opts.cookie(key, life), nil
}

// SignOut ends the session that the request bears and returns the cookie that clears the
// browser's. A request without a session is no error. To end open connections too, announce the
// SessionID that Resolve gave before.
func (s *RedisStore) SignOut(ctx context.Context, r *http.Request) (*http.Cookie, error) {
	cleared := s.opts.cookie("", 0)
	key, err := requestKey(r, s.opts.Name)
	if err != nil {
		return cleared, nil // no session to end
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	if err := s.client.Del(ctx, s.keys.Session(key)).Err(); err != nil {
		return nil, unavailable(err)
	}
	return cleared, nil
}

// SetOrganization makes org the active organization of the session that the request bears, zero
// for none. Expiry, key and all other fields stay. Whether the user may is the caller's question.
func (s *RedisStore) SetOrganization(ctx context.Context, r *http.Request, org orgctx.ID) error {
	key, err := requestKey(r, s.opts.Name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	return s.change(ctx, key, func(d document, p redis.Pipeliner) error {
		if _, err := d.identity(s.opts.Now()); err != nil {
			return err
		}
		delete(d, fieldOrganization)
		if !org.IsZero() {
			d[fieldOrganization] = json.RawMessage(`"` + org.String() + `"`) // IDs need no escapes
		}
		text, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("encode session: %w", ErrInvalid)
		}
		p.SetArgs(ctx, s.keys.Session(key), text, redis.SetArgs{Mode: "XX", KeepTTL: true})
		return nil
	})
}

// create stores a session under a new key.
func (s *RedisStore) create(ctx context.Context, text string, life time.Duration) (key string, err error) {
	random := make([]byte, keyBytes)
	_, _ = rand.Read(random) // never fails: see crypto/rand
	key = keyEncoding.EncodeToString(random)
	args := redis.SetArgs{Mode: "NX", TTL: life}
	if err := s.client.SetArgs(ctx, s.keys.Session(key), text, args).Err(); err != nil {
		return "", unavailable(err)
	}
	return key, nil
}

// replace stores a session under the key that it has, or under a new one if its user changed.
func (s *RedisStore) replace(ctx context.Context, key, text string, life time.Duration) (newKey string, err error) {
	next, err := parseDocument(text)
	if err != nil {
		return "", err
	}
	var rotate bool
	err = s.change(ctx, key, func(d document, p redis.Pipeliner) error {
		if rotate = d.user() != next.user(); rotate {
			p.Del(ctx, s.keys.Session(key))
		} else {
			p.SetArgs(ctx, s.keys.Session(key), text, redis.SetArgs{Mode: "XX", TTL: life})
		}
		return nil
	})
	if err != nil || !rotate {
		return key, err
	}
	return s.create(ctx, text, life)
}

// user returns whom a document says is logged in, "" for nobody.
func (d document) user() string {
	user, _, err := person(d.get)
	if err != nil {
		return ""
	}
	return user
}

// change loads a session and carries out the commands that fn queues, unless the session changed
// or ended in between; it then starts over. An error of fn comes back as it is.
func (s *RedisStore) change(ctx context.Context, key string, fn func(document, redis.Pipeliner) error) error {
	name := s.keys.Session(key)
	var err error
	for range changeAttempts {
		var own error // of load or fn, which Watch must not disguise
		err = s.client.Watch(ctx, func(tx *redis.Tx) error {
			d, err := s.load(ctx, tx, key)
			if err != nil {
				own = err
				return err
			}
			pipe := tx.TxPipeline()
			if own = fn(d, pipe); own != nil {
				return own
			}
			return redisreply.Exec(ctx, pipe)
		}, name)
		switch {
		case own != nil:
			return own
		case err == nil:
			return nil
		case !errors.Is(err, redis.TxFailedErr):
			return unavailable(err)
		}
	}
	return unavailable(err)
}

// load returns the session under the key, or [ErrNone], [ErrInvalid] or [ErrUnavailable].
func (s *RedisStore) load(ctx context.Context, c redis.Cmdable, key string) (document, error) {
	// GETRANGE, so that an absurdly large value does not come over the wire.
	return read(c.GetRange(ctx, s.keys.Session(key), 0, maxSessionSize))
}

// read returns the session that a command brought.
func read(cmd *redis.StringCmd) (document, error) {
	text, err := cmd.Result()
	if err != nil {
		return nil, unavailable(err)
	}
	if text == "" {
		return nil, ErrNone
	}
	return parseDocument(text)
}

// unavailable wraps what Redis or the network said.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
