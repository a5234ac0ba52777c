package directory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// audit is the value of the tests' objects.
type audit struct {
	Status string `json:"status"`
	Count  int    `json:"count"`
}

func newObjects(t *testing.T, f *fixture) (*directory.Objects, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	o, err := directory.NewObjects(f.client, f.keys, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return o, logs
}

func as(tb testing.TB, org string) context.Context {
	tb.Helper()
	return orgctx.With(tb.Context(), testkit.Org(tb, org))
}

// Attacks: a conversation opened under another organization or by another user.
func TestClaim(t *testing.T) {
	f := newFixture(t)
	o, _ := newObjects(t, f)
	for _, step := range []struct {
		org, kind, id, user string
		want                bool
	}{
		{"acme", "chat", "1", "ada", true},
		{"acme", "chat", "1", "ada", true},
		{"acme", "chat", "1", "alan", false},
		{"globex", "chat", "1", "alan", true}, // a conversation of his own
		{"globex", "chat", "1", "ada", false},
		{"acme", "chat", "1", "ada", true},
		{"acme", "crew", "1", "alan", true}, // another kind of object
		{"acme", "chat", "2", "alan", true},
		{"acme", "chat", "", "ada", false},
		{"acme", "", "1", "ada", false},
		{"acme", "chat", "3", "", false},
		{"acme", "chat", "1}:object:chat:2", "ada", false},
		{"acme", "chat:1", "1", "ada", false},
	} {
		got, err := o.Claim(as(t, step.org), step.kind, step.id, step.user)
		if err != nil || got != step.want {
			t.Errorf("%v: got %v, %v", step, got, err)
		}
	}
	for _, key := range f.client.Keys(t.Context(), "*").Val() {
		if ttl := f.client.TTL(t.Context(), key).Val(); ttl < directory.ClaimLife-time.Minute || ttl > directory.ClaimLife {
			t.Errorf("%s: got a life of %v, want %v", key, ttl, directory.ClaimLife)
		}
	}
	if _, err := o.Claim(t.Context(), "chat", "1", "ada"); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("without organization: got %v, want ErrNoOrganization", err)
	}
}

func TestClaimLife(t *testing.T) {
	f := newFixture(t)
	o, _ := newObjects(t, f)
	ctx := as(t, "acme")
	key := f.keys.Object(testkit.Org(t, "acme"), "chat", "1")
	for user, renewed := range map[string]bool{"alan": false, "ada": true} {
		if err := f.client.Set(t.Context(), key, `{"owner":"ada"}`, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if owner, err := o.Claim(ctx, "chat", "1", user); err != nil || owner != renewed {
			t.Errorf("%s: got %v, %v, want %v", user, owner, err, renewed)
		}
		if got := f.client.TTL(t.Context(), key).Val() > time.Minute; got != renewed {
			t.Errorf("claim of ada's conversation by %s: renewed %v, want %v", user, got, renewed)
		}
	}
	// An object without expiry does not get one.
	if err := f.client.Set(t.Context(), key, `{"owner":"ada"}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if owner, err := o.Claim(ctx, "chat", "1", "ada"); err != nil || !owner {
		t.Errorf("got %v, %v, want the owner", owner, err)
	}
	if ttl := f.client.TTL(t.Context(), key).Val(); ttl != -1 {
		t.Errorf("got a life of %v, want none", ttl)
	}
}

func TestClaimNotUnderstood(t *testing.T) {
	f := newFixture(t)
	o, logs := newObjects(t, f)
	key := f.keys.Object(testkit.Org(t, "acme"), "chat", "1")
	for _, text := range []string{"ada", `{"owner":7}`, `{"owner":null}`, `{}`, `[]`, `{"owner":"ada","owner":"alan"}`, `{"Owner":"ada"}`} {
		if err := f.client.Set(t.Context(), key, text, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if owner, err := o.Claim(as(t, "acme"), "chat", "1", "ada"); owner || err != nil {
			t.Errorf("%s: got %v, %v, want neither owner nor error", text, owner, err)
		}
	}
	if logs.Len() != 7 {
		t.Errorf("logged: got %d lines, want 7", logs.Len())
	}
	// An object of the whole organization does not belong to a user.
	if err := f.client.Set(t.Context(), key, `{"owner":""}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if owner, err := o.Claim(as(t, "acme"), "chat", "1", "ada"); owner || err != nil {
		t.Errorf("of the organization: got %v, %v, want neither owner nor error", owner, err)
	}
}

func TestOneClaimWins(t *testing.T) {
	f := newFixture(t)
	o, _ := newObjects(t, f)
	const each = 20
	var wg sync.WaitGroup
	winners := map[string]*atomic.Int32{"acme": new(atomic.Int32), "globex": new(atomic.Int32)}
	for org, count := range winners {
		ctx := as(t, org)
		for n := range each {
			wg.Go(func() {
				owner, err := o.Claim(ctx, "chat", "1", fmt.Sprintf("user-%d", n))
				if err != nil {
					t.Errorf("Claim: %v", err)
				}
				if owner {
					count.Add(1)
				}
			})
		}
	}
	wg.Wait()
	for org, count := range winners {
		if got := count.Load(); got != 1 {
			t.Errorf("%s: got %d owners, want 1", org, got)
		}
	}
}

// Two organizations share every kind and id. Attacks: guessed ids, and reads that ignore the
// organization.
func TestObjectsOfTwoOrganizations(t *testing.T) {
	f := newFixture(t)
	o, _ := newObjects(t, f)
	orgs := []string{"acme", "globex"}
	ids := []string{"1", "2", "same"}
	for n, org := range orgs {
		for _, id := range ids {
			object := directory.Object[audit]{Owner: "ada", Value: audit{Status: org, Count: n}}
			if err := directory.Put(as(t, org), o, "audit", id, object, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := directory.Put(as(t, "globex"), o, "audit", "theirs", directory.Object[audit]{}, time.Hour); err != nil {
		t.Fatal(err)
	}
	for n, org := range orgs {
		for _, id := range ids {
			got, err := directory.Get[audit](as(t, org), o, "audit", id)
			want := directory.Object[audit]{Owner: "ada", Value: audit{Status: org, Count: n}}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s of %s: %v, want (-), got (+):\n%s", id, org, err, diff)
			}
		}
	}
	for name, test := range map[string]struct{ kind, id string }{
		"another organization's": {"audit", "theirs"},
		"unknown":                {"audit", "nowhere"},
		"another kind":           {"chat", "1"},
		"bad kind":               {"audit:1", "1"},
		"bad id":                 {"audit", "1}:object:audit:2"},
		"empty":                  {"", ""},
	} {
		got, err := directory.Get[audit](as(t, "acme"), o, test.kind, test.id)
		if !errors.Is(err, directory.ErrNoObject) || err.Error() != directory.ErrNoObject.Error() || got != (directory.Object[audit]{}) {
			t.Errorf("%s: got %+v, %v, want ErrNoObject and nothing more", name, got, err)
		}
	}
	if _, err := directory.Get[audit](t.Context(), o, "audit", "1"); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("without organization: got %v, want ErrNoOrganization", err)
	}
}

func TestUnscopedGetSaysWhoCalled(t *testing.T) {
	f := newFixture(t)
	o, logs := newObjects(t, f)
	if err := directory.Put(as(t, "globex"), o, "audit", "1", directory.Object[audit]{Owner: "grace"}, 0); err != nil {
		t.Fatal(err)
	}
	got, err := directory.UnscopedGet[audit](as(t, "acme"), o, testkit.Org(t, "globex"), "audit", "1")
	if err != nil || got.Owner != "grace" {
		t.Errorf("got %+v, %v, want that of globex", got, err)
	}
	if _, err := directory.UnscopedGet[audit](as(t, "acme"), o, orgctx.ID{}, "audit", "1"); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("of none: got %v, want ErrNoOrganization", err)
	}
	entries := logs.FilterMessage("unscoped access to an object").All()
	if len(entries) != 2 {
		t.Fatalf("logged: got %v, want two lines", entries)
	}
	if caller, _ := entries[0].ContextMap()["caller"].(string); !strings.Contains(caller, "object_test.go:") {
		t.Errorf("logged caller: got %q, want this file", caller)
	}
}

func TestPutRefuses(t *testing.T) {
	f := newFixture(t)
	o, _ := newObjects(t, f)
	ctx := as(t, "acme")
	for name, test := range map[string]struct {
		err, want error
	}{
		"no organization": {directory.Put(t.Context(), o, "audit", "1", directory.Object[audit]{}, 0), orgctx.ErrNoOrganization},
		"bad kind":        {directory.Put(ctx, o, "a:b", "1", directory.Object[audit]{}, 0), orgctx.ErrInvalidID},
		"bad id":          {directory.Put(ctx, o, "audit", "", directory.Object[audit]{}, 0), orgctx.ErrInvalidID},
		"bad owner":       {directory.Put(ctx, o, "audit", "1", directory.Object[audit]{Owner: "a b"}, 0), orgctx.ErrInvalidUserID},
		"too large":       {directory.Put(ctx, o, "audit", "1", directory.Object[string]{Value: strings.Repeat("x", directory.MaxObject)}, 0), directory.ErrObjectTooLarge},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: got %v, want %v", name, test.err, test.want)
		}
	}
	if err := directory.Put(ctx, o, "audit", "1", directory.Object[func()]{Value: func() {}}, 0); err == nil {
		t.Error("what is no JSON: got no error, want one")
	}
	if n := f.client.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("got %d keys, want none", n)
	}
}

func TestObjectsAway(t *testing.T) {
	f := newFixture(t)
	o, _ := newObjects(t, f)
	f.stop(t)
	ctx := as(t, "acme")
	owner, claimErr := o.Claim(ctx, "chat", "1", "ada")
	_, getErr := directory.Get[audit](ctx, o, "chat", "1")
	for name, err := range map[string]error{
		"Claim": claimErr, "Get": getErr, "Put": directory.Put(ctx, o, "chat", "1", directory.Object[audit]{}, 0),
	} {
		if !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, directory.ErrNoObject) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	if owner {
		t.Error("Claim: got an owner from a Redis that is away")
	}
}

func FuzzDecodeObject(f *testing.F) {
	for _, seed := range []string{
		`{"owner":"ada","value":{"status":"done"}}`, `{"owner":""}`, `{"value":1}`, `{"owner":"ada","owner":"alan"}`,
		`{"OWNER":"ada"}`, `{"owner":"a b"}`, `{"owner":"auth0|1"}`, `{"owner":".."}`, `{"owner":"\u202e"}`, `{"owner":"\ud800"}`, `{"owner":["ada"]}`, ` {"owner":"ada","other":[{}],"value":null} `, `[]`, ``, `{`, "{\"owner\":\"\xff\"}",
		`{"ow\u006eer":"ada","owner":"alan"}`, `{"owner":"ada"}{"owner":"alan"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		owner, value, err := directory.DecodeObject(text)
		if err != nil {
			if !errors.Is(err, directory.ErrObjectMalformed) || owner != "" || value != nil {
				t.Errorf("%q: got %q, %s, %v, want ErrObjectMalformed alone", text, owner, value, err)
			}
			return
		}
		if owner != "" && !orgctx.ValidUserID(owner) {
			t.Errorf("%q: got the owner %q, who has no valid form", text, owner)
		}
		if !json.Valid(value) {
			t.Errorf("%q: got the value %q, which is no JSON", text, value)
		}
		again, err := directory.EncodeObject(owner, value)
		if err != nil {
			t.Fatalf("%q: encode: %v", text, err)
		}
		if len(again) > directory.MaxObject {
			return // escapes may make it longer
		}
		owner2, value2, err := directory.DecodeObject(again)
		if err != nil || owner2 != owner || !equalJSON(t, value, value2) {
			t.Errorf("%q became %q: got %q, %s, %v, want %q, %s", text, again, owner2, value2, err, owner, value)
		}
	})
}

func equalJSON(t *testing.T, a, b json.RawMessage) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		return string(a) == string(b) // such as numbers that are too large
	}
	return cmp.Equal(x, y)
}

// An object of another organization is not found, just like one that does not exist.
func ExampleObjects_Claim() {
	client, keys, end := exampleRedis()
	defer end()
	objects, err := directory.NewObjects(client, keys, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	acme, _ := orgctx.ParseID("acme")
	ctx := orgctx.With(context.Background(), acme)
	for _, user := range []string{"ada", "alan", "ada"} {
		owner, err := objects.Claim(ctx, "chat", "7", user)
		fmt.Println(user, owner, err)
	}
	// Output:
	// ada true <nil>
	// alan false <nil>
	// ada true <nil>
}
