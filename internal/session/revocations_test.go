package session_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

func newRevocations(t *testing.T, f *redisFixture) *session.Revocations {
	t.Helper()
	v, err := session.NewRevocations(f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRedisStoreRecheck: what the store says of the session of an open connection.
func TestRedisStoreRecheck(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	ctx, acme := t.Context(), testkit.Org(t, "acme")
	put := func(key string, fields map[string]any) {
		text, err := json.Marshal(fields)
		if err = errors.Join(err, f.client.Set(ctx, f.keys.Session(key), text, 0).Err()); err != nil {
			t.Errorf("change the session: %v", err)
		}
	}
	good := func() map[string]any {
		return map[string]any{"user_id": "ann", "active_organization_id": "acme", "expires_at": start.Add(time.Hour).Unix(), "more": "of the application"}
	}
	tests := map[string]struct {
		change  func(key string)
		want    error
		expires time.Time
	}{
		"as it was": {func(string) {}, nil, start.Add(time.Hour)},
		"renewed": {func(key string) {
			fields := good()
			fields["expires_at"] = start.Add(2 * time.Hour).Unix()
			put(key, fields)
		}, nil, start.Add(2 * time.Hour)},
		"deleted": {func(key string) { f.client.Del(ctx, f.keys.Session(key)) }, session.ErrNone, time.Time{}},
		"expired": {func(key string) {
			fields := good()
			fields["expires_at"] = start.Unix()
			put(key, fields)
		}, session.ErrExpired, time.Time{}},
		"switched": {func(key string) {
			fields := good()
			fields["active_organization_id"] = "globex"
			put(key, fields)
		}, session.ErrSwitched, time.Time{}},
		"no longer": {func(key string) {
			fields := good()
			delete(fields, "active_organization_id")
			put(key, fields)
		}, session.ErrSwitched, time.Time{}},
		"logged out": {func(key string) { fields := good(); delete(fields, "user_id"); put(key, fields) }, session.ErrNone, time.Time{}},
		"other user": {func(key string) { fields := good(); fields["user_id"] = "bob"; put(key, fields) }, session.ErrEnded, time.Time{}},
		"garbled":    {func(key string) { f.client.Set(ctx, f.keys.Session(key), "{", 0) }, session.ErrInvalid, time.Time{}},
		"wrong kind": {func(key string) {
			f.client.Del(ctx, f.keys.Session(key))
			f.client.HSet(ctx, f.keys.Session(key), "a", "b")
		}, session.ErrUnavailable, time.Time{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, c := f.mint(t, session.Grant{UserID: "ann", Organization: acme, Lifetime: time.Hour})
			other, _ := f.mint(t, session.Grant{UserID: "ann", Organization: acme, Lifetime: time.Hour})
			put(c.Value, good())
			id, err := f.store.Resolve(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			otherID, err := f.store.Resolve(ctx, other)
			if err != nil {
				t.Fatal(err)
			}
			test.change(c.Value)
			held := session.Held{Identity: id, Ticket: f.store.Ticket(r)}
			got := f.store.Recheck(ctx, []session.Held{held, {Identity: otherID, Ticket: f.store.Ticket(other)}, held, {Identity: id, Ticket: "planted"}, {Identity: id}})
			for _, i := range []int{0, 2} { // two connections of one session
				if !errors.Is(got[i].Err, test.want) || !got[i].Expires.Equal(test.expires) {
					t.Errorf("%d: got %+v, want end %v, error %v", i, got[i], test.expires, test.want)
				}
			}
			if got[1].Err != nil {
				t.Errorf("the other session: got %v, want nil", got[1].Err)
			}
			for _, i := range []int{3, 4} {
				if !errors.Is(got[i].Err, session.ErrNone) {
					t.Errorf("ticket of bad form: got %v, want ErrNone", got[i].Err)
				}
			}
		})
	}
	t.Run("Redis away", func(t *testing.T) {
		r, _ := f.mint(t, session.Grant{UserID: "ann", Organization: acme, Lifetime: time.Hour})
		id, err := f.store.Resolve(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		f.stop(t)
		if got := f.store.Recheck(ctx, []session.Held{{Identity: id, Ticket: f.store.Ticket(r)}}); !errors.Is(got[0].Err, session.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", got[0].Err)
		}
	})
}

// TestRevocations: who is on the list is shut out at handshakes and in open connections, with
// either kind of store; nobody else is; and if the list cannot be read, nobody gets in.
func TestRevocations(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	ctx, acme := t.Context(), testkit.Org(t, "acme")
	cookies, err := session.NewCookieStore([]session.KeyPair{{Hash: []byte("0123456789abcdef0123456789abcdef")}}, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := session.NewRedisStore(f.client, f.keys, session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := newRevocations(t, f)
	minted := func(t *testing.T, store session.Store, user string) (header string) {
		t.Helper()
		grant := session.Grant{UserID: user, Organization: acme, Lifetime: time.Hour}
		c, err := cookies.Mint(ctx, grant)
		if store == session.Store(stored) {
			c, err = stored.Mint(ctx, grant)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c.Name + "=" + c.Value
	}
	for name, inner := range map[string]session.Store{"cookies": cookies, "Redis": stored} {
		t.Run(name, func(t *testing.T) {
			store := session.Revocable{Store: inner, Revocations: v}
			user := "ann-" + name
			laptop, phone, other := request(minted(t, inner, user)), request(minted(t, inner, user)), request(minted(t, inner, "bob"))
			var held []session.Held
			for _, r := range []*http.Request{laptop, phone, other} {
				id, err := store.Resolve(ctx, r)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, session.Held{Identity: id, Ticket: store.Ticket(r)})
			}
			id := held[0].Identity
			expect := func(want ...error) {
				t.Helper()
				for i, got := range store.Recheck(ctx, held) {
					if !errors.Is(got.Err, want[i]) || (want[i] == nil) != got.Expires.Equal(held[i].Identity.Expires) {
						t.Errorf("%d: got %+v, want error %v", i, got, want[i])
					}
				}
				if _, err := store.Resolve(ctx, laptop); !errors.Is(err, want[0]) {
					t.Errorf("Resolve: got %v, want %v", err, want[0])
				}
			}
			expect(nil, nil, nil)
			if err := v.EndSession(ctx, id.SessionID, time.Hour); err != nil {
				t.Fatal(err)
			}
			expect(session.ErrEnded, nil, nil)
			if ttl := f.client.TTL(ctx, f.keys.SessionEnded(id.SessionID)).Val(); ttl <= 0 || ttl > time.Hour {
				t.Errorf("it is remembered for %v, want an hour", ttl)
			}
			f.client.Del(ctx, f.keys.SessionEnded(id.SessionID))
			if err := v.DisableUser(ctx, user); err != nil {
				t.Fatal(err)
			}
			expect(session.ErrDisabled, session.ErrDisabled, nil)
		})
	}
	for name, err := range map[string]error{"session": v.EndSession(ctx, "a:b", time.Hour), "user": v.DisableUser(ctx, "")} {
		if err == nil {
			t.Errorf("%s of bad form: got no error, want one", name)
		}
	}
	header := minted(t, cookies, "carol")
	f.stop(t)
	if _, err := (session.Revocable{Store: cookies, Revocations: v}).Resolve(ctx, request(header)); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Redis away: got %v, want ErrUnavailable", err)
	}
}

// TestRevocationsOfMany: one that is shut out among many that are not, and the cost of the usual
// case.
func TestRevocationsOfMany(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	v := newRevocations(t, f)
	held := make([]session.Held, 300)
	for i := range held {
		held[i].Identity = session.Identity{UserID: fmt.Sprint("u", i), SessionID: fmt.Sprint("s", i)}
	}
	check := func(want map[int]error) {
		t.Helper()
		for i, got := range v.Check(t.Context(), held) {
			if !errors.Is(got, want[i]) {
				t.Errorf("%d: got %v, want %v", i, got, want[i])
			}
		}
	}
	check(nil)
	if err := errors.Join(v.EndSession(t.Context(), "s7", time.Hour), v.DisableUser(t.Context(), "u299")); err != nil {
		t.Fatal(err)
	}
	check(map[int]error{7: session.ErrEnded, 299: session.ErrDisabled})
	if got := v.Check(t.Context(), nil); len(got) != 0 {
		t.Errorf("of nobody: got %v", got)
	}
	careless := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer careless.Close()
	if _, err := session.NewRevocations(careless, f.keys); err == nil {
		t.Error("a client that ignores deadlines: got no error, want one")
	}
}
