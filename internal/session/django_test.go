package session_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit/redistest"
)

// djangoExpect is what a case of the vectors wants of a store.
type djangoExpect struct {
	Accept    any              `json:"accept"` // a bool, or "either"
	User      *string          `json:"user_id"`
	Unchecked *json.RawMessage `json:"user_id_if_hash_unchecked"`
	Org       json.RawMessage  `json:"organization_id"`
	UUID      string           `json:"organization_id_if_uuid_read"`
}

// check compares what a store says with what a case wants of a reader that cannot compare the hash of the password.
func (e djangoExpect) check(t *testing.T, got session.Identity, err error) {
	t.Helper()
	user := ""
	switch {
	case e.Unchecked != nil:
		_ = json.Unmarshal(*e.Unchecked, &user) // null is nobody
	case e.User != nil:
		user = *e.User
	}
	if e.Accept == false {
		user = ""
	}
	switch {
	case user == "":
		if err == nil || !errors.Is(err, session.ErrNone) && !errors.Is(err, session.ErrInvalid) && !errors.Is(err, session.ErrExpired) {
			t.Errorf("got %+v, %v, want that nobody is logged in", got, err)
		}
	case err != nil && e.Accept == "either":
	case err != nil || got.UserID != user:
		t.Errorf("got user %q, %v, want %q", got.UserID, err, user)
	default:
		want := strings.Trim(string(e.Org), `"`)
		if e.UUID != "" {
			want = e.UUID
		}
		if want == "null" {
			want = ""
		}
		if got.Organization.String() != want {
			t.Errorf("organization: got %q, want %q", got.Organization, want)
		}
		if got.Expires.IsZero() || !orgctx.ValidID(got.SessionID) {
			t.Errorf("got end %v and session %q, want both", got.Expires, got.SessionID)
		}
	}
}

type djangoSecret struct {
	UTF8 *string `json:"utf8"`
	B64  []byte  `json:"b64"`
}

type signedVectors struct {
	Secrets map[string]djangoSecret `json:"secrets"`
	Cases   []struct {
		ID     string `json:"id"`
		Cookie string `json:"cookie_value"`
		Verify struct {
			SecretKey string   `json:"secret_key"`
			Fallbacks []string `json:"fallbacks"`
			MaxAge    float64  `json:"max_age"`
			Now       float64  `json:"now"`
		} `json:"verify"`
		Expect djangoExpect `json:"expect"`
	} `json:"cases"`
}

// keys returns the keys with these names.
func (v signedVectors) keys(names ...string) (keys [][]byte) {
	for _, name := range names {
		key := v.Secrets[name].B64
		if text := v.Secrets[name].UTF8; text != nil {
			key = []byte(*text)
		}
		keys = append(keys, key)
	}
	return keys
}

func readSigned(tb testing.TB) (v signedVectors) {
	tb.Helper()
	readVectors(tb, "../../django/testdata/django-signed-cookies.json", &v)
	if len(v.Cases) == 0 {
		tb.Fatal("no cases")
	}
	return v
}

func newSignedStore(tb testing.TB, keys [][]byte, o session.DjangoOptions) *session.DjangoSignedStore {
	tb.Helper()
	o.Cookie = "sessionid"
	store, err := session.NewDjangoSignedStore(keys, o)
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

func TestDjangoSignedVectors(t *testing.T) {
	v := readSigned(t)
	for _, c := range v.Cases {
		t.Run(c.ID, func(t *testing.T) {
			seconds, fraction := math.Modf(c.Verify.Now)
			now := time.Unix(int64(seconds), int64(fraction*1e9))
			store := newSignedStore(t, v.keys(append([]string{c.Verify.SecretKey}, c.Verify.Fallbacks...)...), session.DjangoOptions{
				MaxAge: time.Duration(c.Verify.MaxAge) * time.Second, Now: func() time.Time { return now },
			})
			value := c.Cookie
			if strings.Contains(value, "\n") { // else both Django and we would trim it
				value = `"` + strings.ReplaceAll(value, "\n", `\012`) + `"`
			}
			r := &http.Request{Header: http.Header{"Cookie": {"sessionid=" + value}}}
			got, err := store.Resolve(t.Context(), r)
			c.Expect.check(t, got, err)
		})
	}
}

// cookie returns the cookie of a case.
func (v signedVectors) cookie(tb testing.TB, id string) string {
	tb.Helper()
	for _, c := range v.Cases {
		if c.ID == id {
			return c.Cookie
		}
	}
	tb.Fatalf("no case %s", id)
	return ""
}

// TestDjangoSignedEnds: the earlier of the cookie's age and the end that the session names counts, and then the
// browser may hold a newer copy.
func TestDjangoSignedEnds(t *testing.T) {
	v := readSigned(t)
	signed := time.Unix(1767225600, 0)
	for id, life := range map[string]time.Duration{
		"sc-login-org-int": session.DefaultMaxAge, "sc-expiry-int": 300 * time.Second, "sc-expiry-zero": session.DefaultMaxAge, "sc-expiry-iso": time.Hour,
	} {
		now := signed.Add(time.Second)
		store := newSignedStore(t, v.keys("K1"), session.DjangoOptions{Now: func() time.Time { return now }})
		r := request("sessionid=" + v.cookie(t, id))
		got, err := store.Resolve(t.Context(), r)
		if err != nil || !got.Expires.Equal(signed.Add(life)) {
			t.Errorf("%s: got %v, %v, want %v", id, got.Expires, err, signed.Add(life))
		}
		held := []session.Held{{Identity: got, Ticket: store.Ticket(r)}}
		if standing := store.Recheck(t.Context(), held)[0]; standing.Err != nil || !standing.Expires.Equal(got.Expires) {
			t.Errorf("%s, asked again: got %+v", id, standing)
		}
		now = signed.Add(life + time.Second)
		if standing := store.Recheck(t.Context(), held)[0]; !errors.Is(standing.Err, session.ErrStale) {
			t.Errorf("%s, after its end: got %v, want %v", id, standing.Err, session.ErrStale)
		}
		if _, err := store.Resolve(t.Context(), r); !errors.Is(err, session.ErrExpired) {
			t.Errorf("%s, a handshake after its end: got %v, want %v", id, err, session.ErrExpired)
		}
	}
}

// TestDjangoSignedKeysChange: a key that becomes a fallback keeps its sessions, and one that goes ends them.
func TestDjangoSignedKeysChange(t *testing.T) {
	v := readSigned(t)
	store := newSignedStore(t, v.keys("K1"), session.DjangoOptions{Now: func() time.Time { return start }})
	r := request("sessionid=" + v.cookie(t, "sc-login-org-int"))
	for _, step := range []struct {
		keys []string
		want error
	}{{[]string{"K2", "K1"}, nil}, {[]string{"K2"}, session.ErrInvalid}, {[]string{"K1"}, nil}} {
		apply, err := store.PrepareKeys(v.keys(step.keys...))
		if err != nil {
			t.Fatal(err)
		}
		apply()
		if _, err := store.Resolve(t.Context(), r); !errors.Is(err, step.want) {
			t.Errorf("keys %v: got %v, want %v", step.keys, err, step.want)
		}
	}
	if _, err := store.PrepareKeys(nil); err == nil {
		t.Error("no keys: got no error")
	}
}

type cacheVectors struct {
	Cases []struct {
		ID     string `json:"id"`
		Engine string `json:"engine"`
		Cache  struct {
			Prefix  string `json:"KEY_PREFIX"`
			Version int    `json:"VERSION"`
		} `json:"cache"`
		Key        string       `json:"session_key"`
		RedisKey   string       `json:"redis_key"`
		Value      []byte       `json:"redis_value_b64"`
		TTL        *int64       `json:"ttl_seconds"`
		Format     string       `json:"format"`
		Compressor string       `json:"compressor"`
		Expect     djangoExpect `json:"expect"`
	} `json:"cases"`
}

func readCached(tb testing.TB) (v cacheVectors) {
	tb.Helper()
	readVectors(tb, "django-cache-sessions.json", &v)
	if len(v.Cases) == 0 {
		tb.Fatal("no cases")
	}
	return v
}

func newCacheStore(tb testing.TB, client redis.UniversalClient, o session.DjangoCacheOptions) *session.DjangoCacheStore {
	tb.Helper()
	o.Cookie = "sessionid"
	store, err := session.NewDjangoCacheStore(client, o)
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

// TestDjangoCacheVectors reads what Django wrote, from Redis, under the key that Django gave it.
func TestDjangoCacheVectors(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	for _, c := range readCached(t).Cases {
		t.Run(c.ID, func(t *testing.T) {
			life := time.Duration(0)
			if c.TTL != nil && *c.TTL > 0 {
				life = time.Duration(*c.TTL) * time.Second
			}
			if err := client.Set(t.Context(), c.RedisKey, c.Value, life).Err(); err != nil {
				t.Fatal(err)
			}
			format := session.DjangoJSON
			if c.Format == "pickle" {
				format = session.DjangoPickle
			}
			store := newCacheStore(t, client, session.DjangoCacheOptions{
				Engine: session.DjangoEngine(c.Engine), Format: format, Prefix: c.Cache.Prefix, Version: c.Cache.Version,
			})
			r := request("sessionid=" + c.Key)
			got, err := store.Resolve(t.Context(), r)
			c.Expect.check(t, got, err)
			if err != nil {
				return
			}
			if life == 0 {
				life = session.DefaultMaxAge
			}
			if left := time.Until(got.Expires); left > life || left < life-time.Hour {
				t.Errorf("end: got %v from now, want %v", left, life)
			}
			if standing := store.Recheck(t.Context(), []session.Held{{Identity: got, Ticket: store.Ticket(r)}})[0]; standing.Err != nil {
				t.Errorf("asked again: got %v", standing.Err)
			}
		})
	}
}
