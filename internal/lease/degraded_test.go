package lease_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"orgcast/internal/api"
	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestRevokeWhileWritesAreRefused: a revocation that cannot be recorded is announced, so that it
// takes effect now, and is not reported as done.
func TestRevokeWhileWritesAreRefused(t *testing.T) {
	for _, state := range redistest.States() {
		t.Run(string(state), func(t *testing.T) {
			s := redistest.StartServer(t)
			keys := testkit.Keys(t)
			client := redistest.NewClient(t, s.Addr)
			list, err := session.NewRevocations(client, keys)
			if err != nil {
				t.Fatal(err)
			}
			members, err := directory.NewRedis(client, keys)
			if err != nil {
				t.Fatal(err)
			}
			r := &lease.Revoker{Announcer: lease.NewAnnouncer(client, keys), Revocations: list, Members: members, SessionLife: time.Hour}
			overHTTP := api.New(api.Options{PublishKey: api.NewKey("key"), Revoker: r, Log: zaptest.NewLogger(t)})
			control := client.Subscribe(t.Context(), keys.Control())
			defer control.Close()
			if _, err := control.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.RefuseWrites(state)
			acme := testkit.Org(t, "acme")
			for _, m := range []lease.Message{
				{Type: lease.SessionEnded, SessionID: "s"},
				{Type: lease.UserDisabled, UserID: "ada"},
				{Type: lease.MemberRemoved, Organization: acme, UserID: "ada"},
				{Type: lease.OrganizationSuspended, Organization: acme},
			} {
				// A deletion needs no memory.
				works := state == redistest.OutOfMemory && m.Type == lease.MemberRemoved
				recorded, err := r.Revoke(t.Context(), m)
				if recorded != works || errors.Is(err, lease.ErrNotRecorded) == works {
					t.Errorf("%v: got %v, %v, want recorded: %v", m, recorded, err, works)
				}
				w := httptest.NewRecorder()
				request := httptest.NewRequest(http.MethodPost, "/v1/revoke", strings.NewReader(m.String()))
				request.Header.Set("Authorization", "Bearer key")
				overHTTP.ServeHTTP(w, request)
				status, body := 503, `{"status":"failed","code":"not_recorded","message":"`
				if works {
					status, body = 200, `{"status":"revoked"}`
				}
				if got := strings.TrimSpace(w.Body.String()); w.Code != status || !strings.HasPrefix(got, body) {
					t.Errorf("%v: got %d %s, want %d %s…", m, w.Code, got, status, body)
				}
				for range 2 {
					if got, err := control.ReceiveMessage(t.Context()); err != nil || got.Payload != m.String() {
						t.Errorf("announced: got %v, %v, want %v", got, err, m)
					}
				}
			}
			for name, m := range map[string]lease.Message{
				"bad name": {Type: lease.UserDisabled, UserID: "a b"}, "bad role": {Type: lease.MemberRole, Organization: acme, UserID: "ada", Role: "a b"},
			} {
				if _, err := r.Revoke(t.Context(), m); err == nil || errors.Is(err, lease.ErrNotRecorded) {
					t.Errorf("%s: got %v, want an error, and nothing announced", name, err)
				}
			}
			s.Stop()
			_, err = r.Revoke(t.Context(), lease.Message{Type: lease.UserDisabled, UserID: "ada"})
			if err == nil || errors.Is(err, lease.ErrNotRecorded) || errors.Is(err, lease.ErrNotAnnounced) {
				t.Errorf("without Redis: got %v, want an error that says that nothing has happened", err)
			}
		})
	}
}
