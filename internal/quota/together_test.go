package quota_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"orgcast/internal/quota"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestReservationsTogether: connections of several organizations that come at the same time share a
// round trip, and each organization keeps to its own limit. One that leaves takes nothing from the
// others.
func TestReservationsTogether(t *testing.T) {
	f := newFixture(t, redistest.Start(t))
	const orgs, limit = 10, 2
	if n := take(t, f.node(quota.Options{Limit: limit}), testkit.Org(t, "org-3")); n != limit {
		t.Fatalf("got %d, want %d", n, limit)
	}
	hold := redistest.NewHold()
	f.client.AddHook(hold)
	q := f.node(quota.Options{Limit: limit})
	waiting := q.Together(testkit.Patience)
	ctx := t.Context()
	first := make(chan error, 1)
	go func() { first <- q.Take(ctx, testkit.Org(t, "first")) }()
	<-hold.Begun()
	var asking sync.WaitGroup
	leaving, leave := context.WithCancel(ctx)
	asking.Go(func() { // it asks for the others of its organization, too
		if err := q.Take(leaving, testkit.Org(t, "org-5")); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the one that leaves: %v", err)
		}
	})
	testkit.Eventually(t, "it asks", func() bool { return waiting() == 1 })
	var got [orgs]atomic.Int64
	for i := range orgs {
		for range 3 {
			asking.Go(func() {
				switch err := q.Take(ctx, testkit.Org(t, fmt.Sprint("org-", i))); {
				case err == nil:
					got[i].Add(1)
				case !errors.Is(err, quota.ErrFull):
					t.Errorf("org-%d: %v", i, err)
				}
			})
		}
	}
	testkit.Eventually(t, "one asks for each organization", func() bool { return waiting() == orgs })
	leave()
	hold.Release()
	asking.Wait()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	for i := range got {
		want := int64(limit)
		if i == 3 {
			want = 0
		}
		if n := got[i].Load(); n != want && (i != 5 || n != want-1) { // the one that left may have got its place
			t.Errorf("org-%d: got %d connections, want %d", i, n, want)
		}
	}
}
