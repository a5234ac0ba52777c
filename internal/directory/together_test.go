package directory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"orgcast/internal/directory"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestAdmitTogether: handshakes that ask at the same time share questions to Redis, and nothing else:
// each gets the answer for its own user in its own organization, one that leaves takes nothing from
// the others, and where Redis refuses to answer one of them, the others are answered.
func TestAdmitTogether(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for _, org := range []string{"acme", "globex"} {
		f.putOrganization(t, org, directory.Active)
		for i := range 5 {
			f.putMember(t, org, fmt.Sprint("user-", i), directory.Active, fmt.Sprint(org, "-", i)) // the same user ids
		}
	}
	f.putOrganization(t, "closed", directory.Suspended)
	f.putMember(t, "closed", "user-1", directory.Active, "")
	waiting := f.Together(testkit.Patience)
	hold := redistest.NewHold()
	hold.Refused = f.keys.Member(testkit.Org(t, "globex"), "user-3")
	f.client.AddHook(hold)
	admit := func(ctx context.Context, org, user, role string, want error) {
		m, err := f.Admit(ctx, testkit.Org(t, org), user)
		if !errors.Is(err, want) || m.Role != role {
			t.Errorf("%s of %s: got %+v, %v, want role %q, %v", user, org, m, err, role, want)
		}
	}
	var asking sync.WaitGroup
	asking.Go(func() { admit(ctx, "acme", "user-0", "acme-0", nil) })
	<-hold.Begun()
	leaving, leave := context.WithCancel(ctx)
	left := make(chan struct{})
	go func() {
		defer close(left)
		admit(leaving, "closed", "user-1", "", directory.ErrUnavailable)
	}()
	for i := range 5 {
		user := fmt.Sprint("user-", i)
		for range 3 { // tabs of one browser
			asking.Go(func() { admit(ctx, "acme", user, fmt.Sprint("acme-", i), nil) })
			asking.Go(func() {
				if i == 3 {
					admit(ctx, "globex", user, "", directory.ErrUnavailable)
					return
				}
				admit(ctx, "globex", user, fmt.Sprint("globex-", i), nil)
			})
		}
	}
	asking.Go(func() { admit(ctx, "closed", "user-1", "", directory.ErrOrganizationSuspended) })
	asking.Go(func() { admit(ctx, "nowhere", "user-1", "", directory.ErrOrganizationUnknown) })
	testkit.Eventually(t, "all ask", func() bool { return waiting() == 12 })
	leave()
	<-left
	hold.Release()
	asking.Wait()
}
