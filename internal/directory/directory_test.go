package directory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fixture is a directory over a real Redis.
type fixture struct {
	*directory.Redis
	server *redistest.Server // nil in a Cluster
	client redis.UniversalClient
	keys   keyspace.Keyspace
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	keys := testkit.Keys(t)
	f := &fixture{keys: keys}
	if onCluster != nil {
		onCluster.Clear()
		f.client = onCluster.NewClient(t)
	} else {
		f.server = redistest.StartServer(t)
		f.client = redistest.NewClient(t, f.server.Addr)
	}
	var err error
	if f.Redis, err = directory.NewRedis(f.client, keys); err != nil {
		t.Fatalf("NewRedis: %v", err)
	}
	return f
}

// stop stops Redis at least until the test ends.
func (f *fixture) stop(t *testing.T) {
	t.Helper()
	if f.server == nil {
		onCluster.StopUntilEnd(t)
		return
	}
	f.server.Stop()
}

func (f *fixture) putOrganization(t *testing.T, org string, status directory.Status) {
	t.Helper()
	if err := f.PutOrganization(t.Context(), testkit.Org(t, org), status); err != nil {
		t.Fatalf("PutOrganization: %v", err)
	}
}

func (f *fixture) putMember(t *testing.T, org, user string, status directory.Status, role string) {
	t.Helper()
	if err := f.PutMember(t.Context(), testkit.Org(t, org), user, status, directory.Member{Role: role}); err != nil {
		t.Fatalf("PutMember: %v", err)
	}
}

func TestRedisAdmit(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	// Two organizations whose users have the same ids.
	f.putOrganization(t, "acme", directory.Active)
	f.putOrganization(t, "globex", directory.Active)
	f.putOrganization(t, "closed", directory.Suspended)
	f.putMember(t, "acme", "7", directory.Active, "admin")
	f.putMember(t, "globex", "7", directory.Active, "viewer")
	f.putMember(t, "acme", "8", directory.Active, "")
	f.putMember(t, "acme", "9", directory.Suspended, "admin")
	f.putMember(t, "acme", "auth0|7", directory.Active, "org:admin.eu")
	f.putMember(t, "closed", "7", directory.Active, "admin")
	f.putMember(t, "nowhere", "7", directory.Active, "admin")
	// Records that other programs may have written.
	f.client.HSet(ctx, f.keys.Organization(testkit.Org(t, "odd")), "status", "Active")
	f.client.HSet(ctx, f.keys.Organization(testkit.Org(t, "bare")), "name", "Bare Inc.")
	f.client.HSet(ctx, f.keys.Member(testkit.Org(t, "acme"), "no-status"), "role", "admin")
	f.client.HSet(ctx, f.keys.Member(testkit.Org(t, "acme"), "no-role"), "status", "active")
	f.client.HSet(ctx, f.keys.Member(testkit.Org(t, "acme"), "odd-role"), "status", "active", "role", "admin:*")
	f.client.HSet(ctx, f.keys.Member(testkit.Org(t, "acme"), "odd-status"), "status", "active ", "role", "admin")
	f.client.Set(ctx, f.keys.Organization(testkit.Org(t, "garbage")), "active", 0)
	f.client.Set(ctx, f.keys.Member(testkit.Org(t, "acme"), "garbage"), "active", 0)

	tests := map[string]struct {
		org, user string
		role      string
		wantErr   error
	}{
		"member":                       {"acme", "7", "admin", nil},
		"same user id elsewhere":       {"globex", "7", "viewer", nil},
		"no role":                      {"acme", "8", "", nil},
		"role never written":           {"acme", "no-role", "", nil},
		"member of the other one only": {"globex", "8", "", directory.ErrNotMember},
		"suspended member":             {"acme", "9", "", directory.ErrNotMember},
		"suspended organization":       {"closed", "7", "", directory.ErrOrganizationSuspended},
		"unknown organization":         {"nowhere", "7", "", directory.ErrOrganizationUnknown},
		"organization without status":  {"bare", "7", "", directory.ErrOrganizationUnknown},
		"organization of odd status":   {"odd", "7", "", directory.ErrOrganizationSuspended},
		"member without status":        {"acme", "no-status", "", directory.ErrNotMember},
		"member of odd status":         {"acme", "odd-status", "", directory.ErrNotMember},
		"member of odd role":           {"acme", "odd-role", "", directory.ErrNotMember},
		"empty user":                   {"acme", "", "", directory.ErrNotMember},
		"user that is a name":          {"acme", "7}:member:8", "", directory.ErrNotMember},
		"user not ASCII":               {"acme", "é", "", directory.ErrNotMember},
		"user with a bar":              {"acme", "auth0|7", "org:admin.eu", nil},
		"the same, escaped":            {"acme", "auth0%7C7", "", directory.ErrNotMember},
		"user with a space":            {"acme", "a b", "", directory.ErrNotMember},
		"organization of wrong type":   {"garbage", "7", "", directory.ErrUnavailable},
		"member of wrong type":         {"acme", "garbage", "", directory.ErrUnavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			org := testkit.Org(t, test.org)
			got, err := f.Admit(ctx, org, test.user)
			if !errors.Is(err, test.wantErr) || got.Role != test.role {
				t.Errorf("Admit: got %+v, %v, want role %q, error %v", got, err, test.role, test.wantErr)
			}
			if err != nil && errors.Is(err, directory.ErrUnknown) == errors.Is(err, directory.ErrUnavailable) {
				t.Errorf("Admit: %v must be one of ErrUnknown and ErrUnavailable", err)
			}

			// Asking the two questions one by one gives the same result.
			oneErr := f.OrganizationActive(ctx, org)
			var one directory.Member
			if oneErr == nil {
				one, oneErr = f.Member(ctx, org, test.user)
			}
			// An invalid name is refused before either question.
			if orgctx.ValidUserID(test.user) && (!errors.Is(oneErr, test.wantErr) || one != got) {
				t.Errorf("one by one: got %+v, %v, want %+v, %v", one, oneErr, got, test.wantErr)
			}
		})
	}
	t.Run("no organization", func(t *testing.T) {
		if _, err := f.Admit(ctx, orgctx.ID{}, "7"); !errors.Is(err, directory.ErrOrganizationUnknown) {
			t.Errorf("Admit: got %v, want ErrOrganizationUnknown", err)
		}
		if err := f.OrganizationActive(ctx, orgctx.ID{}); !errors.Is(err, directory.ErrOrganizationUnknown) {
			t.Errorf("OrganizationActive: got %v, want ErrOrganizationUnknown", err)
		}
	})
}

func TestRedisChangesCountAtOnce(t *testing.T) {
	f := newFixture(t)
	ctx, org := t.Context(), testkit.Org(t, "acme")
	f.putOrganization(t, "acme", directory.Active)
	f.putMember(t, "acme", "7", directory.Active, "admin")
	f.putMember(t, "acme", "7", directory.Active, "")
	if got, err := f.Admit(ctx, org, "7"); err != nil || got.Role != "" {
		t.Errorf("after the role was taken: got %+v, %v, want no role", got, err)
	}
	f.putOrganization(t, "acme", directory.Suspended)
	if _, err := f.Admit(ctx, org, "7"); !errors.Is(err, directory.ErrOrganizationSuspended) {
		t.Errorf("after suspension: got %v, want ErrOrganizationSuspended", err)
	}
	f.putOrganization(t, "acme", directory.Active)
	for range 2 {
		if err := f.RemoveMember(ctx, org, "7"); err != nil {
			t.Fatalf("RemoveMember: %v", err)
		}
	}
	if _, err := f.Admit(ctx, org, "7"); !errors.Is(err, directory.ErrNotMember) {
		t.Errorf("after removal: got %v, want ErrNotMember", err)
	}
}

func TestRedisRefusesToWriteBadNames(t *testing.T) {
	f := newFixture(t)
	ctx, org := t.Context(), testkit.Org(t, "acme")
	for name, err := range map[string]error{
		"no organization":           f.PutOrganization(ctx, orgctx.ID{}, directory.Active),
		"member of no organization": f.PutMember(ctx, orgctx.ID{}, "7", directory.Active, directory.Member{}),
		"bad user":                  f.PutMember(ctx, org, "a b", directory.Active, directory.Member{}),
		"bad role":                  f.PutMember(ctx, org, "7", directory.Active, directory.Member{Role: strings.Repeat("r", 65)}),
		"bad user removed":          f.RemoveMember(ctx, org, "a b"),
	} {
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	if n := f.client.DBSize(ctx).Val(); n != 0 {
		t.Errorf("got %d keys, want none", n)
	}
}

// admitHook counts the round trips of a client.
type admitHook struct{ trips int }

func (h *admitHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *admitHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.trips++
		return next(ctx, cmd)
	}
}

func (h *admitHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.trips++
		return next(ctx, cmds)
	}
}

func TestRedisAdmitIsOneRoundTrip(t *testing.T) {
	f := newFixture(t)
	f.putOrganization(t, "acme", directory.Active)
	f.putMember(t, "acme", "7", directory.Active, "")
	var h admitHook
	f.client.AddHook(&h)
	if _, err := f.Admit(t.Context(), testkit.Org(t, "acme"), "7"); err != nil {
		t.Fatalf("Admit: %v", err)
	}
	if h.trips != 1 {
		t.Errorf("got %d round trips, want 1", h.trips)
	}
}

func TestRedisAway(t *testing.T) {
	f := newFixture(t)
	f.putOrganization(t, "acme", directory.Active)
	f.putMember(t, "acme", "7", directory.Active, "admin")
	org := testkit.Org(t, "acme")
	check := func(t *testing.T, ctx context.Context) {
		t.Helper()
		member, memberErr := f.Member(ctx, org, "7")
		admitted, admitErr := f.Admit(ctx, org, "7")
		for name, err := range map[string]error{
			"OrganizationActive": f.OrganizationActive(ctx, org), "Member": memberErr, "Admit": admitErr,
			"PutOrganization": f.PutOrganization(ctx, org, directory.Active),
			"PutMember":       f.PutMember(ctx, org, "7", directory.Active, directory.Member{}),
			"RemoveMember":    f.RemoveMember(ctx, org, "7"),
		} {
			if !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, directory.ErrUnknown) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
		}
		if member.Role != "" || admitted.Role != "" {
			t.Errorf("got roles %q and %q, want none", member.Role, admitted.Role)
		}
	}
	t.Run("hung", func(t *testing.T) {
		f.server.Pause()
		defer f.server.Resume()
		// The directory's own timeout applies if the caller has none.
		if _, err := f.Admit(context.WithoutCancel(t.Context()), org, "7"); !errors.Is(err, directory.ErrUnavailable) {
			t.Errorf("Admit: got %v, want ErrUnavailable", err)
		}
	})
	t.Run("caller gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		check(t, ctx)
	})
	t.Run("crashed", func(t *testing.T) {
		f.server.Stop()
		check(t, t.Context())
	})
}

func TestRedisNeedsAClientThatKeepsDeadlines(t *testing.T) {
	keys := testkit.KeysUnder(t, "x")
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	if _, err := directory.NewRedis(client, keys); err == nil {
		t.Error("NewRedis: got no error, want one")
	}
}

// TestAdmitAllIsAdmit: many questions at once get the same answers as one by one, in one round
// trip.
func TestAdmitAllIsAdmit(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.putOrganization(t, "acme", directory.Active)
	f.putOrganization(t, "closed", directory.Suspended)
	f.putMember(t, "acme", "7", directory.Active, "admin")
	f.putMember(t, "acme", "8", directory.Active, "")
	f.putMember(t, "acme", "9", directory.Suspended, "")
	f.putMember(t, "closed", "7", directory.Active, "")
	f.client.Set(ctx, f.keys.Member(testkit.Org(t, "acme"), "garbage"), "x", 0)
	var list []directory.Membership
	for _, org := range []string{"acme", "closed", "nowhere"} {
		for _, user := range []string{"7", "8", "9", "garbage", "nobody", "a:b", "a b", "", "7"} {
			list = append(list, directory.Membership{Organization: testkit.Org(t, org), UserID: user})
		}
	}
	list = append(list, directory.Membership{UserID: "7"})
	for name, d := range map[string]directory.Directory{"Redis": f.Redis, "session": directory.TrustSession{}} {
		got := d.AdmitAll(ctx, list)
		for i, m := range list {
			member, err := d.Admit(ctx, m.Organization, m.UserID)
			// Redis may fail one of several commands. A certain no counts more than that.
			if got[i].Member != member || !errors.Is(got[i].Err, err) && !errors.Is(err, directory.ErrUnavailable) {
				t.Errorf("%s, %v: got %+v, want %+v, %v", name, m, got[i], member, err)
			}
			if (got[i].Err == nil) != (err == nil) {
				t.Errorf("%s, %v: got error %v, want %v", name, m, got[i].Err, err)
			}
		}
	}
	var h admitHook
	f.client.AddHook(&h)
	f.AdmitAll(ctx, list)
	if h.trips != 1 {
		t.Errorf("got %d round trips, want 1", h.trips)
	}
	f.stop(t)
	for i, a := range f.AdmitAll(ctx, list[:2]) {
		if !errors.Is(a.Err, directory.ErrUnavailable) {
			t.Errorf("Redis away, %v: got %v, want ErrUnavailable", list[i], a.Err)
		}
	}
}

func TestDoAsksTheDirectory(t *testing.T) {
	f := newFixture(t)
	f.putOrganization(t, "acme", directory.Active)
	f.putOrganization(t, "closed", directory.Suspended)
	for name, want := range map[string]error{
		"acme": nil, "closed": directory.ErrOrganizationSuspended, "nowhere": directory.ErrOrganizationUnknown,
	} {
		ran := false
		err := orgctx.Do(t.Context(), f, testkit.Org(t, name), func(context.Context) error {
			ran = true
			return nil
		})
		if !errors.Is(err, want) || ran != (want == nil) {
			t.Errorf("%s: got %v, ran %v, want %v", name, err, ran, want)
		}
	}
}

func TestTrustSession(t *testing.T) {
	var d directory.TrustSession
	ctx, org := t.Context(), testkit.Org(t, "acme")
	if err := d.OrganizationActive(ctx, org); err != nil {
		t.Errorf("OrganizationActive: %v", err)
	}
	if err := d.OrganizationActive(ctx, orgctx.ID{}); !errors.Is(err, directory.ErrOrganizationUnknown) {
		t.Errorf("OrganizationActive of none: got %v, want ErrOrganizationUnknown", err)
	}
	for name, ask := range map[string]func(context.Context, orgctx.ID, string) (directory.Member, error){
		"Member": d.Member, "Admit": d.Admit,
	} {
		if got, err := ask(ctx, org, "7"); err != nil || got.Role != "" {
			t.Errorf("%s: got %+v, %v, want a member without role", name, got, err)
		}
		if _, err := ask(ctx, org, "a b"); !errors.Is(err, directory.ErrNotMember) {
			t.Errorf("%s of a bad user: got %v, want ErrNotMember", name, err)
		}
		if _, err := ask(ctx, orgctx.ID{}, "7"); !errors.Is(err, directory.ErrOrganizationUnknown) {
			t.Errorf("%s of no organization: got %v, want ErrOrganizationUnknown", name, err)
		}
	}
}

// Clients cannot tell unknown, suspended and foreign organizations apart. Logs can.
func ExampleErrUnknown() {
	for _, err := range []error{
		directory.ErrOrganizationUnknown, directory.ErrOrganizationSuspended, directory.ErrNotMember,
	} {
		fmt.Println(errors.Is(err, directory.ErrUnknown), err)
	}
	// Output:
	// true directory: no such organization or member: organization is unknown
	// true directory: no such organization or member: organization is not active
	// true directory: no such organization or member: user is not an active member
}
