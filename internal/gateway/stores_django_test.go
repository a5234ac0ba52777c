package gateway_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// djangoName is Django's name for the session cookie.
const djangoName = "sessionid"

// djangoSignedVault has signed cookies of a Django site.
func djangoSignedVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	store, err := session.NewDjangoSignedStore([][]byte{[]byte(testkit.DjangoSecret)}, session.DjangoOptions{Cookie: djangoName, Now: s.now})
	if err != nil {
		tb.Fatal(err)
	}
	return &vault{Store: store, name: djangoName, last: true, mint: func(user string, org orgctx.ID, end time.Time) string {
		return djangoName + "=" + testkit.SignDjango(testkit.DjangoSession(user, org.String(), end), end.Add(-time.Hour))
	}}
}

// djangoCacheVault keeps sessions where a Django site caches them: in the server of the setup, or in one of its own.
func djangoCacheVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	if s.server == nil {
		s.server = redistest.StartServer(tb)
	}
	client := redis.NewClient(&redis.Options{Addr: s.server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	tb.Cleanup(func() { _ = client.Close() })
	store, err := session.NewDjangoCacheStore(client, session.DjangoCacheOptions{
		DjangoOptions: session.DjangoOptions{Cookie: djangoName, Timeout: 5 * time.Second},
	})
	if err != nil {
		tb.Fatal(err)
	}
	v := &vault{Store: store, name: djangoName, last: true, stop: s.server.Stop, resume: s.server.Restart}
	ctx, logins := context.Background(), make(logins)
	name := func(cookies string) string { return ":1:django.contrib.sessions.cache" + v.value(cookies) }
	save := func(cookies string, change func(l *login)) {
		logins.change(v.value(cookies), change)
		l := logins[v.value(cookies)]
		if life := time.Until(l.end); life > 0 {
			err = client.Set(ctx, name(cookies), testkit.DjangoSession(l.user, l.org.String(), time.Time{}), life).Err()
		} else {
			err = client.Del(ctx, name(cookies)).Err()
		}
		if err != nil {
			tb.Error(err)
		}
	}
	v.mint = func(user string, org orgctx.ID, end time.Time) string {
		cookies := djangoName + "=" + testkit.DjangoKey()
		save(cookies, func(l *login) { *l = login{user, org, end} })
		return cookies
	}
	v.signOut = func(cookies string) {
		if err := client.Del(ctx, name(cookies)).Err(); err != nil {
			tb.Error(err)
		}
	}
	v.switchTo = func(cookies string, org orgctx.ID) { save(cookies, func(l *login) { l.org = org }) }
	v.renew = func(cookies string, end time.Time) { save(cookies, func(l *login) { l.end = end }) }
	return v
}
