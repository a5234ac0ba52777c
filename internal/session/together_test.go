package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// someone resolves every request as the user and the session that two of its headers name.
type someone struct{ session.Store }

func (someone) Resolve(_ context.Context, r *http.Request) (session.Identity, error) {
	return session.Identity{UserID: r.Header.Get("User"), SessionID: r.Header.Get("Session"), Expires: start.Add(time.Hour)}, nil
}

// TestRevocationsOfHandshakesTogether: handshakes that ask at the same time share questions to Redis,
// and nothing else: each gets its own answer, one that leaves takes nothing from the others, and where
// Redis refuses to answer one of them, the others are answered.
func TestRevocationsOfHandshakesTogether(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	revocations := newRevocations(t, f)
	ctx := t.Context()
	if err := errors.Join(revocations.EndSession(ctx, "session-3", time.Hour), revocations.DisableUser(ctx, "user-5")); err != nil {
		t.Fatal(err)
	}
	waiting := revocations.Together(testkit.Patience)
	hold := redistest.NewHold()
	hold.Refused = f.keys.UserDisabled("user-7")
	f.client.AddHook(hold)
	store := session.Revocable{Store: someone{}, Revocations: revocations}
	resolve := func(ctx context.Context, i int) (session.Identity, error) {
		return store.Resolve(ctx, &http.Request{Header: http.Header{"User": {fmt.Sprint("user-", i)}, "Session": {fmt.Sprint("session-", i)}}})
	}
	first := make(chan error, 1)
	go func() {
		_, err := resolve(ctx, 0)
		first <- err
	}()
	<-hold.Begun()
	var asking sync.WaitGroup
	leaving, leave := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() {
		_, err := resolve(leaving, 5)
		left <- err
	}()
	want := map[int]error{3: session.ErrEnded, 5: session.ErrDisabled, 7: session.ErrUnavailable}
	for i := range 10 {
		for range 3 { // tabs of one browser
			asking.Go(func() {
				id, err := resolve(ctx, i)
				if !errors.Is(err, want[i]) || err == nil && id.UserID != fmt.Sprint("user-", i) {
					t.Errorf("%d: got %+v, %v, want %v", i, id, err, want[i])
				}
			})
		}
	}
	testkit.Eventually(t, "all ask", func() bool { return waiting() == 10 })
	leave()
	if err := <-left; !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("the one that leaves: got %v, want %v", err, session.ErrUnavailable)
	}
	hold.Release()
	asking.Wait()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
}

// TestSessionsOfHandshakesTogether: handshakes that look up their sessions at the same time share round
// trips, and each gets its own session.
func TestSessionsOfHandshakesTogether(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	ctx := t.Context()
	requests := make([]*http.Request, 10)
	for i := range requests {
		cookie, err := f.store.Mint(ctx, session.Grant{UserID: fmt.Sprint("user-", i), Organization: testkit.Org(t, fmt.Sprint("org-", i%2))})
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = &http.Request{Header: http.Header{"Cookie": {cookie.String()}}}
	}
	const lost, refused = 3, 5
	if _, err := f.store.SignOut(ctx, requests[lost]); err != nil {
		t.Fatal(err)
	}
	waiting := f.store.Together(testkit.Patience)
	hold := redistest.NewHold()
	hold.Refused = f.keys.Session(f.store.Ticket(requests[refused]))
	f.client.AddHook(hold)
	first := make(chan error, 1)
	go func() {
		_, err := f.store.Resolve(ctx, requests[0])
		first <- err
	}()
	<-hold.Begun()
	var asking sync.WaitGroup
	want := map[int]error{lost: session.ErrNone, refused: session.ErrUnavailable}
	for i, r := range requests {
		for range 3 { // tabs of one browser
			asking.Go(func() {
				id, err := f.store.Resolve(ctx, r)
				if !errors.Is(err, want[i]) {
					t.Errorf("%d: got %v, want %v", i, err, want[i])
				}
				if err == nil && (id.UserID != fmt.Sprint("user-", i) || id.Organization != testkit.Org(t, fmt.Sprint("org-", i%2))) {
					t.Errorf("%d: got %+v", i, id)
				}
			})
		}
	}
	testkit.Eventually(t, "all ask", func() bool { return waiting() == len(requests) })
	hold.Release()
	asking.Wait()
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
}
