package jwks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"orgcast/internal/jwks"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// provider is an issuer whose key set takes a while to come, and may fail.
type provider struct {
	*testkit.Issuer

	fetches atomic.Int64
	takes   time.Duration
	mu      sync.Mutex
	err     error
}

func (p *provider) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *provider) fetch(ctx context.Context) ([]byte, error) {
	p.fetches.Add(1)
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Set(), p.err
}

// world is a Set of a new provider, in a test on fake time.
type world struct {
	t *testing.T
	p *provider
	s *jwks.Set
}

// with runs a test on fake time.
func with(t *testing.T, test func(w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{Issuer: testkit.NewIssuer(), takes: 100 * time.Millisecond}
		s, err := jwks.New(jwks.Options{Fetch: p.fetch})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(world{t, p, s})
	})
}

// token returns an unverified token of a key.
func token(kid any) *jwt.Token {
	return &jwt.Token{Header: map[string]any{"alg": "ES256", "kid": kid}, Method: jwt.SigningMethodES256}
}

func expect(t *testing.T, s *jwks.Set, kid any, want error) {
	t.Helper()
	key, err := s.Key(t.Context(), token(kid))
	if !errors.Is(err, want) || (key == nil) == (want == nil) {
		t.Errorf("%v: got %v, %v, want %v", kid, key, err, want)
	}
}

// TestUnknownKeysFetchSeldom: a thousand tokens a second with made-up key ids cost the provider one question in 10 s, and
// known keys stay known.
func TestUnknownKeysFetchSeldom(t *testing.T) {
	with(t, func(w world) {
		t, p, s := w.t, w.p, w.s
		expect(t, s, "key-1", nil)
		began, fetched := time.Now(), p.fetches.Load()
		var asking sync.WaitGroup
		for n := range 30_000 {
			asking.Go(func() { expect(t, s, fmt.Sprintf("made-up-%d", n), jwks.ErrUnknownKey) })
			if n%1000 == 0 {
				expect(t, s, "key-1", nil)
			}
			time.Sleep(time.Millisecond)
		}
		asking.Wait()
		if took, got := time.Since(began), p.fetches.Load()-fetched; got > int64(took/jwks.Interval) || got < 2 {
			t.Errorf("got %d fetches in %v, want one in %v", got, took, jwks.Interval)
		}
	})
}

// TestNewKeyIsFoundByAllWhoWait: tokens of a new key that arrive together share a fetch, and all count.
func TestNewKeyIsFoundByAllWhoWait(t *testing.T) {
	with(t, func(w world) {
		t, p, s := w.t, w.p, w.s
		expect(t, s, "key-1", nil)
		time.Sleep(jwks.Interval)
		kid := p.Rotate()
		var asking sync.WaitGroup
		for range 200 {
			asking.Go(func() { expect(t, s, kid, nil) })
		}
		asking.Wait()
		expect(t, s, "key-1", nil)
		if got := p.fetches.Load(); got != 2 {
			t.Errorf("got %d fetches, want 2", got)
		}
	})
}

// TestProviderAway: known keys count while the provider does not answer. Before there are any, nobody can say.
func TestProviderAway(t *testing.T) {
	with(t, func(w world) {
		t, p, s := w.t, w.p, w.s
		away := errors.New("away")
		p.fail(away)
		expect(t, s, "key-1", jwks.ErrUnavailable)
		if err := s.Ready(t.Context()); !errors.Is(err, jwks.ErrUnavailable) || !errors.Is(err, away) {
			t.Errorf("ready: got %v, want %v with the reason", err, jwks.ErrUnavailable)
		}
		p.fail(nil)
		expect(t, s, "key-1", jwks.ErrUnavailable) // too soon
		time.Sleep(jwks.Interval)
		expect(t, s, "key-1", nil)
		p.fail(away)
		time.Sleep(2 * jwks.DefaultMaxAge)
		expect(t, s, "key-1", nil)
		synctest.Wait()
		expect(t, s, "key-1", nil)
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("ready with old keys: got %v", err)
		}
	})
}

// TestWithdrawnKeyStopsCounting: a key that the provider no longer shows is forgotten, although no token asks for another.
func TestWithdrawnKeyStopsCounting(t *testing.T) {
	with(t, func(w world) {
		t, p, s := w.t, w.p, w.s
		expect(t, s, "key-1", nil)
		p.Rotate()
		p.Withdraw("key-1")
		time.Sleep(jwks.DefaultMaxAge)
		expect(t, s, "key-1", nil) // and the keys are fetched meanwhile
		time.Sleep(time.Second)
		expect(t, s, "key-1", jwks.ErrUnknownKey)
		expect(t, s, "key-2", nil)
	})
}

// TestUnusableKeys: secret keys, keys for encryption, keys without an id and unknown kinds are not used, and do not spoil the
// others. A token has to name a key of its own algorithm.
func TestUnusableKeys(t *testing.T) {
	with(t, func(w world) {
		t, p, s := w.t, w.p, w.s
		var shown struct{ Keys []map[string]any }
		if err := json.Unmarshal(p.Set(), &shown); err != nil {
			t.Fatal(err)
		}
		other := func(change map[string]any) {
			key := maps.Clone(shown.Keys[0])
			maps.Copy(key, change)
			p.AddKey(key)
		}
		p.AddKey(map[string]any{"kty": "oct", "kid": "secret", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"})
		p.AddKey(map[string]any{"kty": "new", "kid": "new"})
		other(map[string]any{"kid": "encrypts", "use": "enc"})
		other(map[string]any{"kid": "", "use": "sig"})
		other(map[string]any{"kid": "any", "use": nil, "alg": nil})
		expect(t, s, "key-1", nil)
		expect(t, s, "any", nil)
		expect(t, s, "secret", jwks.ErrUnknownKey)
		expect(t, s, "new", jwks.ErrUnknownKey)
		expect(t, s, "encrypts", jwks.ErrUnusable)
		expect(t, s, "", jwks.ErrUnusable)
		expect(t, s, nil, jwks.ErrUnusable)
		expect(t, s, 7, jwks.ErrUnusable)
		confused := token("key-1")
		confused.Header["alg"] = "HS256"
		if _, err := s.Key(t.Context(), confused); !errors.Is(err, jwks.ErrUnusable) {
			t.Errorf("a token of another algorithm: got %v, want %v", err, jwks.ErrUnusable)
		}
	})
}

// TestAnswersThatAreNoKeySet are failures, after which previous keys count.
func TestAnswersThatAreNoKeySet(t *testing.T) {
	for _, text := range []string{"", "[]", "{}", `{"keys":[]}`, `{"keys":{}}`, `{"keys":[{"kty":"EC"}]}`, "<html>"} {
		synctest.Test(t, func(t *testing.T) {
			var failed error
			s, err := jwks.New(jwks.Options{
				Fetch:  func(context.Context) ([]byte, error) { return []byte(text), nil },
				Failed: func(err error) { failed = err },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			expect(t, s, "key-1", jwks.ErrUnavailable)
			if failed == nil {
				t.Errorf("%q: got no failure", text)
			}
		})
	}
}

// TestWaitingEnds: a token's own deadline and Close end waiting.
func TestWaitingEnds(t *testing.T) {
	with(t, func(w world) {
		t, p, s := w.t, w.p, w.s
		p.takes = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Key(ctx, token("key-1")); !errors.Is(err, jwks.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v at the deadline", err, jwks.ErrUnavailable)
		}
		s.Close()
		expect(t, s, "key-1", jwks.ErrUnavailable)
	})
}

func TestOptions(t *testing.T) {
	fetch := func(context.Context) ([]byte, error) { return nil, nil }
	for name, o := range map[string]jwks.Options{"no fetch": {}, "too often": {Fetch: fetch, MaxAge: time.Second}} {
		if _, err := jwks.New(o); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func FuzzKeySet(f *testing.F) {
	f.Add(testkit.NewIssuer().Set())
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"},{"kty":"oct","kid":"b","k":"AA"},{"kty":"OKP","crv":"Ed25519","kid":"c","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := jwks.New(jwks.Options{Fetch: func(context.Context) ([]byte, error) { return text, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if key, err := s.Key(context.Background(), token("b")); (key == nil) == (err == nil) {
			t.Errorf("got %v, %v", key, err)
		}
	})
}
