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

	"orgcast/internal/gather"
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
	// together looks up sessions for handshakes. It is nil in a Cluster, where the answers of an
	// unreachable server would keep the others waiting.
	together *gather.Gatherer[string, found]
}

// found is the text of a session, empty if there is none.
type found struct {
	text string
	err  error
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
	s := &RedisStore{client: client, keys: keys, opts: o}
	if _, single := client.(*redis.Client); single {
		s.gather(patience)
	}
	return s, nil
}

// gather has handshakes that come at the same time share round trips.
func (s *RedisStore) gather(patience time.Duration) {
	s.together = gather.New(gather.Options[string, found]{Call: s.lookUp, Most: maxTogether, Patience: patience})
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
	f, err := s.find(ctx, key)
	if err != nil {
		return Identity{}, err
	}
	id, err := f.identity(s.opts.Now())
	if err != nil {
		return Identity{}, err
	}
	id.SessionID = DeriveID(key)
	return id, nil
}

// find looks up a session for a handshake.
func (s *RedisStore) find(ctx context.Context, key string) (found, error) {
	if s.together == nil {
		return s.lookUp(ctx, []string{key})[0], nil
	}
	f, err := s.together.Ask(ctx, key)
	if err != nil { // nobody has answered
		return found{}, unavailable(err)
	}
	return f, nil
}

// lookUp looks up sessions in one round trip.
func (s *RedisStore) lookUp(ctx context.Context, keys []string) []found {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	list := make([]found, len(keys))
	if len(keys) == 1 {
		list[0].text, list[0].err = s.get(ctx, s.client, keys[0]).Result()
		return list
	}
	pipe := s.client.Pipeline()
	texts := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		texts[i] = s.get(ctx, pipe, key)
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	for i, cmd := range texts {
		list[i].text, list[i].err = cmd.Result()
	}
	return list
}

// identity returns who has the session.
func (f found) identity(now time.Time) (Identity, error) {
	d, err := f.document()
	if err != nil {
		return Identity{}, err
	}
	return d.identity(now)
}

func (f found) document() (document, error) {
	switch {
	case f.err != nil:
		return nil, unavailable(f.err)
	case f.text == "":
		return nil, ErrNone
	}
	return parseDocument(f.text)
}

// get asks for the text of a session.
func (s *RedisStore) get(ctx context.Context, c redis.Cmdable, key string) *redis.StringCmd {
	// GETRANGE, so that an absurdly large value does not come over the wire.
	return c.GetRange(ctx, s.keys.Session(key), 0, maxSessionSize)
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
	var keys []string
	places := make(map[string]int, len(held)) // several connections may share a session
	for _, h := range held {
		if _, listed := places[h.Ticket]; !listed && validKey(h.Ticket) {
			places[h.Ticket] = len(keys)
			keys = append(keys, h.Ticket)
		}
	}
	sessions := s.lookUp(ctx, keys)
	now := s.opts.Now()
	out := make([]Standing, len(held))
	for i, h := range held {
		out[i] = Standing{Err: ErrNone}
		if place, ok := places[h.Ticket]; ok {
			out[i] = h.judge(sessions[place].identity(now))
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
	text, err := s.get(ctx, c, key).Result()
	return found{text, err}.document()
}

// unavailable wraps what Redis or the network said.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
