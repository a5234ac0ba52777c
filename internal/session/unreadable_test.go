package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"orgcast/internal/foreign"
	"orgcast/internal/session"
)

// TestUnreadableCookies: a store that cannot read a cookie knows whose it may be, answers as before, and does not
// tell anybody the value.
func TestUnreadableCookies(t *testing.T) {
	const express = "s%3AE6q2NIGjeMuQ7owccUMqlY2ash3_vxxO.OpkFErC%2Bs1lB%2BlvCNiZXf5hrwPv3hL2BPoBxVlxYZRA"
	records := newRedisFixture(t, session.Options{}).store
	signed := newCookieStore(t, session.Options{}, keyA)
	asking := newWebStore(t, new(site), nil)
	other, err := newCookieStore(t, session.Options{}, keyB).Mint(t.Context(), session.Grant{UserID: "ada", Lifetime: session.DefaultMaxAge})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		store  session.Part
		cookie string
		err    error
		looks  foreign.Kind
	}{
		"signed sessions, Express":          {signed, "orgcast_session=" + express, session.ErrInvalid, foreign.Express},
		"signed sessions, another key":      {signed, "orgcast_session=" + other.Value, session.ErrInvalid, foreign.Gorilla},
		"signed sessions, nonsense":         {signed, "orgcast_session=nonsense", session.ErrInvalid, ""},
		"sessions in Redis, Express":        {records, "orgcast_session=" + express, session.ErrInvalid, foreign.Express},
		"sessions in Redis, nonsense":       {records, "orgcast_session=nonsense", session.ErrInvalid, ""},
		"sessions in Redis, one too many":   {records, "orgcast_session=" + strings.Repeat("A", 43), session.ErrNone, ""},
		"another cookie":                    {records, "connect.sid=" + express, session.ErrNone, foreign.Express},
		"another cookie, the site is asked": {asking, "theme=dark; _notes_session=secret", session.ErrNone, foreign.Rails},
		"no cookie":                         {records, "theme=dark", session.ErrNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := session.Several{test.store}.Resolve(t.Context(), request(test.cookie))
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			var looks foreign.Kind
			if unreadable := new(session.UnreadableError); errors.As(err, &unreadable) {
				looks = unreadable.Looks()
			}
			if looks != test.looks {
				t.Errorf("it looks like %q, want %q", looks, test.looks)
			}
			_, value, _ := strings.Cut(test.cookie, "=")
			if printed := fmt.Sprintf("%v %+v %#v %q", err, err, err, err); strings.Contains(printed, value) {
				t.Errorf("the error shows the cookie: %s", printed)
			}
		})
	}
}
