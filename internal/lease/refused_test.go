package lease_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestConnectionRefused: Redis refuses the connection itself, because of a changed password or a
// deleted user. Connections then stay until the deadline, and their clients may come back later.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartServer(t)
			keys := testkit.Keys(t)
			good := redistest.NewClient(t, s.Addr)
			sessions, err := session.NewRedisStore(good, keys, session.Options{})
			if err != nil {
				t.Fatal(err)
			}
			cookie, err := sessions.Mint(t.Context(), session.Grant{UserID: "ada", Organization: testkit.Org(t, "acme")})
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Header: http.Header{"Cookie": {cookie.Name + "=" + cookie.Value}}}
			id, err := sessions.Resolve(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			ticket := sessions.Ticket(r)

			refused := s.NewRefusedClient(refusal)
			if sessions, err = session.NewRedisStore(refused, keys, session.Options{}); err != nil {
				t.Fatal(err)
			}
			list, err := session.NewRevocations(refused, keys)
			if err != nil {
				t.Fatal(err)
			}
			members, err := directory.NewRedis(refused, keys)
			if err != nil {
				t.Fatal(err)
			}
			cookies := newWorld() // a session store without Redis, while revocations and directory use Redis
			for name, o := range map[string]lease.Options{
				"sessions":    {Sessions: sessions, Directory: directory.TrustSession{}},
				"revocations": {Sessions: session.Revocable{Store: cookies, Revocations: list}, Directory: directory.TrustSession{}},
				"directory":   {Sessions: cookies, Directory: members},
			} {
				t.Run(name, func(t *testing.T) {
					o.Period, o.Deadline = 50*time.Millisecond, time.Second
					k, err := lease.NewKeeper(o)
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(t.Context())
					var running sync.WaitGroup
					running.Go(func() { _ = k.Run(ctx) }) // always nil
					defer running.Wait()
					defer cancel()
					h := &holder{id: id}
					mark, at := k.Mark()
					if err := k.Add(&h.lease, h, ticket, mark, at); err != nil {
						t.Fatal(err)
					}
					testkit.Eventually(t, "the connection is ended", func() bool { return h.cause() != nil })
					if _, ok := errors.AsType[lease.UnconfirmedError](h.cause()); !ok {
						t.Errorf("got %v, want that nobody could say", h.cause())
					}
				})
			}

			announcer := lease.NewAnnouncer(refused, keys)
			message := lease.Message{Type: lease.SessionEnded, SessionID: id.SessionID}
			if err := announcer.Announce(t.Context(), message); err == nil || !strings.Contains(err.Error(), refusal.Error) {
				t.Errorf("Announce: got %v, want %s", err, refusal.Error)
			}
			revoker := lease.Revoker{Announcer: announcer, Revocations: list, SessionLife: time.Hour}
			if recorded, err := revoker.Revoke(t.Context(), message); recorded || err == nil || !strings.Contains(err.Error(), refusal.Error) {
				t.Errorf("Revoke: got %v, %v, want neither recorded nor announced", recorded, err)
			}
		})
	}
}
