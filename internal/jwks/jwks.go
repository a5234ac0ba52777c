// Package jwks keeps the public keys with which an identity provider signs tokens (RFC 7517). It
// fetches them when a token names a key that it does not know, and seldom otherwise.
package jwks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// Interval is the shortest time between two fetches. Anyone can make up tokens with unknown key
	// ids, and the provider must not notice.
	Interval = 10 * time.Second
	// DefaultMaxAge is how old keys become before they are fetched again although all are known, so
	// that a key that the provider has withdrawn stops counting.
	DefaultMaxAge = 5 * time.Minute
)

var (
	// ErrUnknownKey is returned for a token whose key is not in the set.
	ErrUnknownKey = errors.New("jwks: the token's key is not in the set")
	// ErrUnusable is returned for a token that names no key, or one for another algorithm or use.
	ErrUnusable = errors.New("jwks: the token's key cannot be used")
	// ErrUnavailable is returned, wrapped, as long as there are no keys at all.
	ErrUnavailable = errors.New("jwks: no keys")
)

// Options are those of [New].
type Options struct {
	// Fetch returns the set in JSON. It waits for the network, for a bounded time. Required.
	Fetch func(ctx context.Context) ([]byte, error)
	// Failed is called with the error of each fetch that failed. It must not block. It may be nil.
	Failed func(err error)
	// MaxAge is when keys are fetched again; default [DefaultMaxAge].
	MaxAge time.Duration
}

// Set is the keys of one provider. It is safe for concurrent use.
type Set struct {
	opt     Options
	ctx     context.Context //nolint:containedctx // of fetches, which several tokens share; ends with Close
	cancel  context.CancelFunc
	fetches sync.WaitGroup

	mu      sync.Mutex
	keys    keyfunc.Keyfunc // nil before the first fetch that succeeded
	began   time.Time       // when the last fetch began
	running chan struct{}   // closed when the fetch that is under way has ended; nil if there is none
	err     error           // of the last fetch
	closed  bool
}

// New returns a Set that has no keys yet. Close it after its last use.
func New(o Options) (*Set, error) {
	if o.Fetch == nil {
		return nil, errors.New("jwks: Fetch must be set")
	}
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	if o.MaxAge < Interval {
		return nil, fmt.Errorf("jwks: MaxAge must be at least %v", Interval)
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	s := &Set{opt: o}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close ends a fetch that is under way and waits for it. There are no further ones.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.fetches.Wait()
}

// Key returns the public key for a token, whose header must name it. If the key is unknown, Key waits
// for a fetch, which all such tokens share, if one may begin. Errors are [ErrUnknownKey],
// [ErrUnavailable] and [ErrUnusable].
func (s *Set) Key(ctx context.Context, token *jwt.Token) (any, error) {
	key, err := find(ctx, s.current(), token)
	if !errors.Is(err, ErrUnknownKey) {
		return key, err
	}
	keys, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	return find(ctx, keys, token)
}

// Ready returns nil if there are keys. If there are none, it waits for a fetch, if one may begin, and
// returns [ErrUnavailable].
func (s *Set) Ready(ctx context.Context) error {
	if s.current() != nil {
		return nil
	}
	_, err := s.newest(ctx)
	return err
}

// current returns the keys without waiting, nil if there are none. It lets old ones be fetched again.
func (s *Set) current() keyfunc.Keyfunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys != nil && time.Since(s.began) >= s.opt.MaxAge {
		s.begin()
	}
	return s.keys
}

// newest returns the keys after a fetch, if one is under way or may begin.
func (s *Set) newest(ctx context.Context) (keyfunc.Keyfunc, error) {
	s.mu.Lock()
	s.begin()
	running := s.running
	s.mu.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, s.err)
	}
	return s.keys, nil
}

// begin begins a fetch, unless one is under way or the last one began less than an [Interval] ago. Its
// caller holds mu.
func (s *Set) begin() {
	if s.closed || s.running != nil || !s.began.IsZero() && time.Since(s.began) < Interval {
		return
	}
	s.began = time.Now()
	done := make(chan struct{})
	s.running = done
	s.fetches.Go(func() {
		defer close(done)
		keys, err := s.fetch()
		if err != nil && s.ctx.Err() == nil {
			s.opt.Failed(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.running, s.err = nil, err; err == nil {
			s.keys = keys // previous ones stay if it failed
		}
	})
}

func (s *Set) fetch() (keyfunc.Keyfunc, error) {
	text, err := s.opt.Fetch(s.ctx)
	if err != nil {
		return nil, err
	}
	return parse(s.ctx, text)
}

// parse reads a set. Keys that it does not know, and secret ones, are left out.
func parse(ctx context.Context, text []byte) (keyfunc.Keyfunc, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("jwks: the answer is not a JSON object with keys")
	}
	storage, n := jwkset.NewMemoryStorage(), 0
	for _, raw := range set.Keys {
		key, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil || key.Marshal().KID == "" {
			continue
		}
		if err := storage.KeyWrite(ctx, key); err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		n++
	}
	if n == 0 {
		return nil, errors.New("jwks: the set has no public key with an id")
	}
	return keyfunc.New(keyfunc.Options{Storage: storage, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
}

// find returns a key among keys, which may be nil.
func find(ctx context.Context, keys keyfunc.Keyfunc, token *jwt.Token) (any, error) {
	if kid, _ := token.Header["kid"].(string); kid == "" {
		return nil, ErrUnusable
	}
	if keys == nil {
		return nil, ErrUnknownKey
	}
	key, err := keys.KeyfuncCtx(ctx)(token)
	switch {
	case errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, ErrUnknownKey
	case err != nil:
		return nil, ErrUnusable // without the cause, which quotes the token's header
	}
	return key, nil
}
