package demo_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/demo"
	"orgcast/internal/directory"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// newRedis starts the embedded Redis and returns a client of it.
func newRedis(tb testing.TB) *redis.Client {
	tb.Helper()
	server, err := demo.StartRedis()
	if err != nil {
		tb.Fatalf("StartRedis: %v", err)
	}
	tb.Cleanup(server.Close)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func TestSeedAdmitsMembersAndNobodyElse(t *testing.T) {
	t.Parallel()
	client := newRedis(t)
	keys := testkit.Keys(t)
	for range 2 { // a second start of the demo on the same Redis
		if err := demo.Seed(t.Context(), client, keys); err != nil {
			t.Fatalf("Seed: %v", err)
		}
	}
	dir, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]string{"ada": "acme", "alan": "acme", "grace": "globex", "greta": "globex"}
	for _, person := range demo.People() {
		for _, o := range demo.Organizations() {
			org := testkit.Org(t, o.ID)
			member, err := dir.Admit(t.Context(), org, person.User)
			switch {
			case members[person.User] == o.ID, person.User == "mira":
				if err != nil || member.Role != "member" {
					t.Errorf("%s at %s: got role %q and error %v, want a member", person.User, org, member.Role, err)
				}
			case !errors.Is(err, directory.ErrUnknown):
				t.Errorf("%s at %s: got error %v, want %v", person.User, org, err, directory.ErrUnknown)
			}
		}
	}
}

func TestSeedWithoutRedis(t *testing.T) {
	t.Parallel()
	client := redistest.NewClient(t, "127.0.0.1:1")
	if err := demo.Seed(t.Context(), client, testkit.Keys(t)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("got error %v, want %v", err, directory.ErrUnavailable)
	}
}
