package session_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestConnectionRefused: a Redis that refuses the connection itself, for a changed password or a
// deleted user, says nothing about a session or a revocation. Nobody is signed out by it, and
// nobody let in.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			f := newRedisFixture(t, session.Options{})
			r, _ := f.mint(t, session.Grant{UserID: "ann", Organization: testkit.Org(t, "acme")})
			id, err := f.store.Resolve(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			held := []session.Held{{Identity: id, Ticket: f.store.Ticket(r)}}
			client := f.server.NewRefusedClient(refusal)
			store, err := session.NewRedisStore(client, f.keys, session.Options{})
			if err != nil {
				t.Fatal(err)
			}
			list, err := session.NewRevocations(client, f.keys)
			if err != nil {
				t.Fatal(err)
			}
			_, resolved := store.Resolve(t.Context(), r)
			_, out := store.SignOut(t.Context(), r)
			_, fetched := store.New(r, session.DefaultName)
			for name, err := range map[string]error{
				"Resolve": resolved, "Recheck": store.Recheck(t.Context(), held)[0].Err, "New": fetched, "SignOut": out,
				"SetOrganization":       store.SetOrganization(t.Context(), r, orgctx.ID{}),
				"Check":                 list.Check(t.Context(), held)[0],
				"EndSession":            list.EndSession(t.Context(), id.SessionID, time.Hour),
				"DisableUser":           list.DisableUser(t.Context(), "ann"),
				"Recheck and revoked":   session.Revocable{Store: store, Revocations: list}.Recheck(t.Context(), held)[0].Err,
				"Recheck, list refused": session.Revocable{Store: f.store, Revocations: list}.Recheck(t.Context(), held)[0].Err,
			} {
				if !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("%s: got %v, want ErrUnavailable", name, err)
				}
			}
		})
	}
}

// beforePipelines does something before each pipeline.
type beforePipelines func()

func (beforePipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (beforePipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (b beforePipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		b()
		return next(ctx, commands)
	}
}

// TestRefusedBetweenTwoQuestions: someone on the list makes the list be asked once more, who it is.
// If that is refused, everybody is as unknown as before, and not let in.
func TestRefusedBetweenTwoQuestions(t *testing.T) {
	f := newRedisFixture(t, session.Options{})
	ctx := t.Context()
	if err := f.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">old", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{
		Addr: f.server.Addr, Username: "app", Password: "old", ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
		ConnMaxLifetime: time.Nanosecond, // a connection for each question,
		DisableIdentity: true,            // opened without a pipeline
	})
	defer client.Close()
	var once sync.Once
	client.AddHook(beforePipelines(func() {
		once.Do(func() {
			if err := f.client.Do(ctx, "ACL", "DELUSER", "app").Err(); err != nil {
				t.Error(err)
			}
		})
	}))
	list, err := session.NewRevocations(client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.client.Set(ctx, f.keys.UserDisabled("mallory"), "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	held := []session.Held{{Identity: session.Identity{UserID: "mallory", SessionID: "1"}}, {Identity: session.Identity{UserID: "ann", SessionID: "2"}}}
	for i, err := range list.Check(ctx, held) {
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", held[i].Identity.UserID, err)
		}
	}
}
