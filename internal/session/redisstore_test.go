package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// redisFixture is a store over a real Redis, with a clock that the test moves.
type redisFixture struct {
	server *redistest.Server // nil in a Cluster
	client redis.UniversalClient
	keys   keyspace.Keyspace
	store  *session.RedisStore

	mu  sync.Mutex
	now time.Time
}

func newRedisFixture(t *testing.T, o session.Options) *redisFixture {
	t.Helper()
	keys := testkit.Keys(t)
	f := &redisFixture{keys: keys, now: start}
	if onCluster != nil {
		onCluster.Clear()
		f.client = onCluster.NewClient(t)
	} else {
		f.server = redistest.StartServer(t)
		f.client = redistest.NewClient(t, f.server.Addr)
	}
	o.Now = func() time.Time {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.now
	}
	var err error
	if f.store, err = session.NewRedisStore(f.client, keys, o); err != nil {
		t.Fatalf("NewRedisStore: %v", err)
	}
	return f
}

func (f *redisFixture) setNow(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = now
}

// mint returns a request with a new session.
func (f *redisFixture) mint(t *testing.T, g session.Grant) (*http.Request, *http.Cookie) {
	t.Helper()
	c, err := f.store.Mint(t.Context(), g)
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	return request(c.Name + "=" + c.Value), c
}

// sessionKeys returns the names of all sessions in Redis.
func (f *redisFixture) sessionKeys(t *testing.T) []string {
	t.Helper()
	var mu sync.Mutex
	var names []string
	list := func(ctx context.Context, c *redis.Client) error {
		some, err := c.Keys(ctx, f.keys.Session("*")).Result()
		mu.Lock()
		defer mu.Unlock()
		names = append(names, some...)
		return err
	}
	var err error
	switch c := f.client.(type) {
	case *redis.Client:
		err = list(t.Context(), c)
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), list)
	}
	if err != nil {
		t.Fatalf("KEYS: %v", err)
	}
	return names
}

// stop ends Redis, until the test ends at least.
func (f *redisFixture) stop(t *testing.T) {
	t.Helper()
	if f.server == nil {
		onCluster.StopUntilEnd(t)
		return
	}
	f.server.Stop()
}

const someKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestRedisStoreMintResolveSignOut(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	ctx := t.Context()
	org := testkit.Org(t, "acme")
	r, c := f.mint(t, session.Grant{UserID: "ann", Organization: org, Lifetime: time.Hour})
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 3600 {
		t.Errorf("attributes: got %+v", c)
	}
	if ttl := f.client.TTL(ctx, f.keys.Session(c.Value)).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("TTL: got %v, want 1h", ttl)
	}

	got, err := f.store.Resolve(ctx, r)
	if err != nil {
		t.Fatalf("Resolve: %v", err)
	}
	want := session.Identity{UserID: "ann", Organization: org, SessionID: session.DeriveID(c.Value), Expires: start.Add(time.Hour)}
	if diff := cmp.Diff(want, got, compareIdentities); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if !orgctx.ValidID(got.SessionID) {
		t.Errorf("SessionID %q has no valid form", got.SessionID)
	}
	// The ID of a session appears in logs; it must not open the session.
	if _, err := f.store.Resolve(ctx, request(c.Name+"="+got.SessionID)); !errors.Is(err, session.ErrNone) {
		t.Errorf("login with the SessionID: got %v, want ErrNone", err)
	}

	cleared, err := f.store.SignOut(ctx, r)
	if err != nil || cleared.MaxAge >= 0 || cleared.Value != "" {
		t.Errorf("SignOut: got %+v, %v, want a cookie that removes", cleared, err)
	}
	if _, err := f.store.Resolve(ctx, r); !errors.Is(err, session.ErrNone) {
		t.Errorf("after sign-out: got %v, want ErrNone", err)
	}
	if _, err := f.store.SignOut(ctx, request("")); err != nil {
		t.Errorf("SignOut without a session: %v", err)
	}
}

func TestRedisStoreExpiresToTheSecond(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	r, _ := f.mint(t, session.Grant{UserID: "ann", Lifetime: time.Minute})
	f.setNow(start.Add(time.Minute - time.Nanosecond))
	if _, err := f.store.Resolve(t.Context(), r); err != nil {
		t.Errorf("just before the end: %v", err)
	}
	f.setNow(start.Add(time.Minute))
	if _, err := f.store.Resolve(t.Context(), r); !errors.Is(err, session.ErrExpired) {
		t.Errorf("at the end: got %v, want ErrExpired", err)
	}
}

func TestRedisStoreLooksUpOnlyItsOwnForm(t *testing.T) {
	f := newRedisFixture(t, session.Options{Name: "s"})
	// Sessions that a hostile cookie would reach if it went into the name unchecked.
	for _, key := range []string{"x", "*", someKey[:42] + "B", "../" + someKey} {
		f.client.Set(t.Context(), f.keys.Session(key), `{"user_id":"eve","expires_at":4102444800}`, 0)
	}
	_, good := f.mint(t, session.Grant{UserID: "ann"})
	tests := map[string]struct {
		header string
		want   error
	}{
		"none":             {"", session.ErrNone},
		"empty":            {"s=", session.ErrNone},
		"unknown":          {"s=" + someKey, session.ErrNone},
		"good":             {"s=" + good.Value, nil},
		"good is last":     {"s=" + someKey + "; s=" + good.Value, session.ErrNone},
		"good is first":    {"s=" + good.Value + "; s=" + someKey, nil},
		"short":            {"s=x", session.ErrInvalid},
		"pattern":          {"s=*", session.ErrInvalid},
		"second spelling":  {"s=" + someKey[:42] + "B", session.ErrInvalid},
		"longer":           {"s=../" + someKey, session.ErrInvalid},
		"padding":          {"s=" + good.Value + "=", session.ErrInvalid},
		"truncated":        {"s=" + good.Value[:42], session.ErrInvalid},
		"line end":         {`s="` + good.Value[:42] + `\012"`, session.ErrNone},
		"huge":             {"s=" + strings.Repeat("A", 1<<20), session.ErrInvalid},
		"not ASCII":        {"s=" + strings.Repeat("ä", 21) + "A", session.ErrNone},
		"standard base64":  {"s=" + strings.Repeat("+", 42) + "A", session.ErrInvalid},
		"another's cookie": {"t=" + good.Value, session.ErrNone},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := f.store.Resolve(t.Context(), request(test.header)); !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestRedisStoreSetOrganization(t *testing.T) {
	f := newRedisFixture(t, session.Options{Name: "s"})
	ctx := t.Context()
	name := f.keys.Session(someKey)
	const before = `{"user_id":9007199254740993,"active_organization_id":"acme","cart":{"n":9007199254740993},"expires_at":4102444800}`
	f.client.Set(ctx, name, before, time.Hour)
	r := request("s=" + someKey)

	if err := f.store.SetOrganization(ctx, r, testkit.Org(t, "globex")); err != nil {
		t.Fatalf("SetOrganization: %v", err)
	}
	const after = `{"active_organization_id":"globex","cart":{"n":9007199254740993},"expires_at":4102444800,"user_id":9007199254740993}`
	if got := f.client.Get(ctx, name).Val(); got != after {
		t.Errorf("got %s, want %s", got, after)
	}
	if ttl := f.client.TTL(ctx, name).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("TTL: got %v, want it unchanged", ttl)
	}

	if err := f.store.SetOrganization(ctx, r, orgctx.ID{}); err != nil {
		t.Fatalf("SetOrganization to none: %v", err)
	}
	if got, err := f.store.Resolve(ctx, r); err != nil || !got.Organization.IsZero() {
		t.Errorf("got %+v, %v, want no organization", got, err)
	}

	f.client.Del(ctx, name)
	if err := f.store.SetOrganization(ctx, r, testkit.Org(t, "acme")); !errors.Is(err, session.ErrNone) {
		t.Errorf("of an ended session: got %v, want ErrNone", err)
	}
	if got := f.sessionKeys(t); len(got) != 0 {
		t.Errorf("an ended session came back: %q", got)
	}
}

// save lets change alter the session of r as a web application would, and returns the cookie set.
func (f *redisFixture) save(t *testing.T, r *http.Request, change map[any]any) (*http.Cookie, error) {
	t.Helper()
	s, err := f.store.Get(r, "s")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	maps.Copy(s.Values, change)
	w := httptest.NewRecorder()
	if err := s.Save(r, w); err != nil {
		return nil, err
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("got cookies %v, want one", cookies)
	}
	return cookies[0], nil
}

// Session fixation: the attacker plants a key in the victim's browser and waits for the login.
func TestSessionFixationIsImpossible(t *testing.T) {
	t.Run("invented key", func(t *testing.T) {
		f := newRedisFixture(t, session.Options{Name: "s"})
		c, err := f.save(t, request("s="+someKey), map[any]any{"user_id": "victim"})
		if err != nil {
			t.Fatalf("Save: %v", err)
		}
		if c.Value == someKey || !session.ValidKey(c.Value) {
			t.Errorf("got key %q, want a new one", c.Value)
		}
		if _, err := f.store.Resolve(t.Context(), request("s="+someKey)); !errors.Is(err, session.ErrNone) {
			t.Errorf("the attacker's key: got %v, want ErrNone", err)
		}
	})
	t.Run("ID set by hand", func(t *testing.T) {
		f := newRedisFixture(t, session.Options{Name: "s"})
		r := request("")
		s, err := f.store.Get(r, "s")
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		s.ID, s.Values["user_id"] = someKey, "victim"
		if err := s.Save(r, httptest.NewRecorder()); err != nil {
			t.Fatalf("Save: %v", err)
		}
		if s.ID == someKey {
			t.Error("saved under the client's key")
		}
	})
	for name, known := range map[string]map[any]any{
		"attacker's anonymous session": {"theme": "dark"},
		"attacker's own login":         {"user_id": "attacker"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRedisFixture(t, session.Options{Name: "s"})
			planted, err := f.save(t, request(""), known)
			if err != nil {
				t.Fatalf("Save: %v", err)
			}
			c, err := f.save(t, request("s="+planted.Value), map[any]any{"user_id": "victim"})
			if err != nil {
				t.Fatalf("Save: %v", err)
			}
			if c.Value == planted.Value {
				t.Error("the login kept the key")
			}
			if _, err := f.store.Resolve(t.Context(), request("s="+planted.Value)); !errors.Is(err, session.ErrNone) {
				t.Errorf("the planted key: got %v, want ErrNone", err)
			}
			if got, err := f.store.Resolve(t.Context(), request("s="+c.Value)); err != nil || got.UserID != "victim" {
				t.Errorf("the victim's key: got %+v, %v, want the victim", got, err)
			}
		})
	}
}

func TestRedisStoreAsGorillaStore(t *testing.T) {
	f := newRedisFixture(t, session.Options{Name: "s"})
	ctx := t.Context()
	big := json.Number("9007199254740993")
	first, err := f.save(t, request(""), map[any]any{"user_id": big, "active_organization_id": "acme", "n": big})
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	if !first.Secure || !first.HttpOnly || first.SameSite != http.SameSiteLaxMode {
		t.Errorf("attributes: got %+v", first)
	}
	second, err := f.save(t, request("s="+first.Value), map[any]any{"active_organization_id": "globex"})
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	if second.Value != first.Value {
		t.Errorf("key changed without a change of user")
	}
	s, err := f.store.Get(request("s="+first.Value), "s")
	if err != nil || s.IsNew {
		t.Fatalf("Get: new %v, %v", s.IsNew, err)
	}
	if s.Values["n"] != big {
		t.Errorf("number: got %v, want %v", s.Values["n"], big)
	}
	if got, err := f.store.Resolve(ctx, request("s="+first.Value)); err != nil || got.UserID != big.String() || got.Organization.String() != "globex" {
		t.Errorf("got %+v, %v, want user %s of globex", got, err, big)
	}

	r := request("s=" + first.Value)
	stale, err := f.store.Get(r, "s")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if _, err := f.store.SignOut(ctx, r); err != nil {
		t.Fatalf("SignOut: %v", err)
	}
	if err := stale.Save(r, httptest.NewRecorder()); !errors.Is(err, session.ErrNone) {
		t.Errorf("Save after sign-out: got %v, want ErrNone", err)
	}
	if got := f.sessionKeys(t); len(got) != 0 {
		t.Errorf("a signed-out session came back: %q", got)
	}

	for name, values := range map[string]map[any]any{
		"name not text": {7: "x"},
		"not JSON":      {"x": func() {}},
		"bad user":      {"user_id": "a b"},
		"too large":     {"x": strings.Repeat("x", 1<<20)},
	} {
		if _, err := f.save(t, request(""), values); err == nil {
			t.Errorf("Save of %s: got no error, want one", name)
		}
	}
}

func TestRedisStoreSaveWithNegativeMaxAgeEnds(t *testing.T) {
	f := newRedisFixture(t, session.Options{Name: "s"})
	r, _ := f.mint(t, session.Grant{UserID: "ann"})
	s, err := f.store.Get(r, "s")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	s.Options.MaxAge = -1
	w := httptest.NewRecorder()
	if err := s.Save(r, w); err != nil {
		t.Fatalf("Save: %v", err)
	}
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("got cookies %v, want one that removes", c)
	}
	if got := f.sessionKeys(t); len(got) != 0 {
		t.Errorf("got sessions %q, want none", got)
	}
}

// Changes that collide are tried again; none is lost and none tears the document.
func TestRedisStoreConcurrentChanges(t *testing.T) {
	f := newRedisFixture(t, session.Options{Timeout: 10 * time.Second})
	r, _ := f.mint(t, session.Grant{UserID: "ann"})
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		org := testkit.Org(t, fmt.Sprint("org", i))
		wg.Go(func() { errs[i] = f.store.SetOrganization(t.Context(), r, org) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("SetOrganization: %v", err)
	}
	if got, err := f.store.Resolve(t.Context(), r); err != nil || got.UserID != "ann" || got.Organization.IsZero() {
		t.Errorf("got %+v, %v, want ann of one of the organizations", got, err)
	}
}

func TestRedisStoreWithoutRedis(t *testing.T) {
	f := newRedisFixture(t, session.Options{Timeout: time.Second})
	r, _ := f.mint(t, session.Grant{UserID: "ann"})
	check := func(t *testing.T) {
		t.Helper()
		_, resolveErr := f.store.Resolve(t.Context(), r)
		_, mintErr := f.store.Mint(t.Context(), session.Grant{UserID: "ann"})
		_, outErr := f.store.SignOut(t.Context(), r)
		_, newErr := f.store.New(r, session.DefaultName)
		for name, err := range map[string]error{
			"Resolve": resolveErr, "Mint": mintErr, "SignOut": outErr, "New": newErr,
			"SetOrganization": f.store.SetOrganization(t.Context(), r, orgctx.ID{}),
		} {
			if !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
		}
	}
	t.Run("hung", func(t *testing.T) {
		f.server.Pause()
		defer f.server.Resume()
		check(t)
	})
	t.Run("caller gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.store.Resolve(ctx, r); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want ErrUnavailable and context.Canceled", err)
		}
	})
	t.Run("crashed", func(t *testing.T) {
		f.server.Stop()
		check(t)
	})
}

func TestRedisStoreNeedsAClientThatKeepsDeadlines(t *testing.T) {
	keys := testkit.KeysUnder(t, "x")
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	if _, err := session.NewRedisStore(client, keys, session.Options{}); err == nil {
		t.Error("NewRedisStore: got no error, want one")
	}
}
