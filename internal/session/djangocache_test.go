package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit/redistest"
)

const djangoKey = "abcdefghijklmnopqrstuvwxyz012345"

// djangoJSON is a session of Django with these additional members.
func djangoJSON(more string) string {
	return `{"_auth_user_id":"42","_auth_user_backend":"` + session.DefaultDjangoBackend + `","_auth_user_hash":"00"` + more + `}`
}

// djangoPickle is a pickled session with an active organization that these instructions make.
func djangoPickle(organization string) string {
	text := func(s string) string { return "\x8c" + string([]byte{byte(len(s))}) + s }
	return "\x80\x04}(" + text("_auth_user_id") + text("42") + text("_auth_user_backend") + text(session.DefaultDjangoBackend) +
		text("_auth_user_hash") + text("00") + text("active_organization_id") + organization + "u."
}

func TestDjangoSessions(t *testing.T) {
	for name, test := range map[string]struct {
		value  string
		o      session.DjangoCacheOptions
		want   string // organization
		refuse error
	}{
		"JSON":                      {value: djangoJSON(`,"active_organization_id":"acme"`), want: "acme"},
		"another key":               {value: djangoJSON(`,"team":9007199254740993`), o: session.DjangoCacheOptions{DjangoOptions: session.DjangoOptions{Organization: "team"}}, want: "9007199254740993"},
		"no organization":           {value: djangoJSON("")},
		"true is no organization":   {value: djangoJSON(`,"active_organization_id":true`)},
		"7.0 is no organization":    {value: djangoJSON(`,"active_organization_id":7.0`)},
		"an organization with star": {value: djangoJSON(`,"active_organization_id":"*"`), refuse: session.ErrInvalid},
		"another backend":           {value: djangoJSON(""), o: session.DjangoCacheOptions{DjangoOptions: session.DjangoOptions{Backends: []string{"a.B"}}}, refuse: session.ErrNone},
		"one of two backends":       {value: djangoJSON(""), o: session.DjangoCacheOptions{DjangoOptions: session.DjangoOptions{Backends: []string{"a.B", session.DefaultDjangoBackend}}}},
		"user is true":              {value: `{"_auth_user_id":true,"_auth_user_backend":"` + session.DefaultDjangoBackend + `","_auth_user_hash":"00"}`, refuse: session.ErrInvalid},
		"user with a space":         {value: `{"_auth_user_id":"a b","_auth_user_backend":"` + session.DefaultDjangoBackend + `","_auth_user_hash":"00"}`, refuse: session.ErrInvalid},
		"empty hash":                {value: `{"_auth_user_id":"42","_auth_user_backend":"` + session.DefaultDjangoBackend + `","_auth_user_hash":""}`, refuse: session.ErrNone},
		"a list":                    {value: `[]`, refuse: session.ErrInvalid},
		"too long":                  {value: djangoJSON(`,"a":"` + strings.Repeat("x", 64<<10) + `"`), refuse: session.ErrInvalid},
		"pickled, with text":        {value: djangoPickle("\x8c\x04acme"), o: session.DjangoCacheOptions{Format: session.DjangoPickle}, want: "acme"},
		"pickled, with a number":    {value: djangoPickle("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00"), o: session.DjangoCacheOptions{Format: session.DjangoPickle}, want: "18446744073709551615"},
		"pickled, with a UUID":      {value: djangoPickle("cuuid\nUUID\n)\x81}\x8c\x03intK\x01sb"), o: session.DjangoCacheOptions{Format: session.DjangoPickle}, want: "00000000-0000-0000-0000-000000000001"},
		"pickled, with an object":   {value: djangoPickle("cshop\nOrganization\n)\x81"), o: session.DjangoCacheOptions{Format: session.DjangoPickle}, refuse: session.ErrInvalid},
		"pickled, with a list":      {value: djangoPickle("]"), o: session.DjangoCacheOptions{Format: session.DjangoPickle}},
		"pickled, not understood":   {value: djangoPickle("\x97"), o: session.DjangoCacheOptions{Format: session.DjangoPickle}, refuse: session.ErrInvalid},
		"JSON instead of a pickle":  {value: djangoJSON(""), o: session.DjangoCacheOptions{Format: session.DjangoPickle}, refuse: session.ErrInvalid},
		"a pickle instead of JSON":  {value: djangoPickle("K\x07"), refuse: session.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if test.o.Format == "" {
				test.o.Format = session.DjangoJSON
			}
			got, err := session.DecodeDjango(test.value, test.o)
			if !errors.Is(err, test.refuse) || err == nil && (got.UserID != "42" || got.Organization.String() != test.want) {
				t.Errorf("got %+v, %v, want organization %q, %v", got, err, test.want, test.refuse)
			}
		})
	}
	_, err := session.DecodeDjango(djangoPickle("K\x07"), session.DjangoCacheOptions{Format: session.DjangoJSON})
	if err == nil || !strings.Contains(err.Error(), "--django-cache-format") {
		t.Errorf("a pickle instead of JSON: got %v, want the setting", err)
	}
}

// TestDjangoCacheRecheck: what Django changes in the cache counts for open connections.
func TestDjangoCacheRecheck(t *testing.T) {
	server := redistest.StartServer(t)
	client := redistest.NewClient(t, server.Addr)
	name := ":1:django.contrib.sessions.cache" + djangoKey
	set := func(value string, life time.Duration) {
		t.Helper()
		if err := client.Set(t.Context(), name, value, life).Err(); err != nil {
			t.Fatal(err)
		}
	}
	store := newCacheStore(t, client, session.DjangoCacheOptions{DjangoOptions: session.DjangoOptions{Timeout: 5 * time.Second}})
	r := request("sessionid=" + djangoKey)
	set(djangoJSON(`,"active_organization_id":7`), time.Hour)
	id, err := store.Resolve(t.Context(), r)
	if err != nil || id.SessionID != session.DeriveID(djangoKey) {
		t.Fatalf("got %+v, %v, want the session named after its key", id, err)
	}
	held := []session.Held{{Identity: id, Ticket: store.Ticket(r)}, {Identity: id}}
	for _, step := range []struct {
		name   string
		change func()
		want   error
	}{
		{"as it was", func() {}, nil},
		{"renewed", func() { set(djangoJSON(`,"active_organization_id":7`), 2*time.Hour) }, nil},
		{"without an end", func() { set(djangoJSON(`,"active_organization_id":7`), 0) }, nil},
		{"another organization", func() { set(djangoJSON(`,"active_organization_id":8`), time.Hour) }, session.ErrSwitched},
		{"no organization", func() { set(djangoJSON(""), time.Hour) }, session.ErrSwitched},
		{"another user", func() { set(strings.Replace(djangoJSON(""), "42", "43", 1), time.Hour) }, session.ErrEnded},
		{"nobody", func() { set("{}", time.Hour) }, session.ErrStale},
		{"a mistake", func() { set("{", time.Hour) }, session.ErrInvalid},
		{"gone", func() { client.Del(t.Context(), name) }, session.ErrStale},
		{"Redis stopped", server.Stop, session.ErrUnavailable},
	} {
		step.change()
		out := store.Recheck(t.Context(), held)
		if !errors.Is(out[0].Err, step.want) || step.want == nil && out[0].Expires.IsZero() {
			t.Errorf("%s: got %+v, want %v", step.name, out[0], step.want)
		}
		if !errors.Is(out[1].Err, session.ErrStale) {
			t.Errorf("%s, without a ticket: got %v, want %v", step.name, out[1].Err, session.ErrStale)
		}
	}
	if _, err := store.Resolve(t.Context(), r); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("handshake: got %v, want %v", err, session.ErrUnavailable)
	}
}

// TestLostCacheEndsNoSession: with cached_db, what is missing in the cache may be in the database.
func TestLostCacheEndsNoSession(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	store := newCacheStore(t, client, session.DjangoCacheOptions{Engine: session.DjangoCachedDB})
	r := request("sessionid=" + djangoKey)
	if err := client.Set(t.Context(), ":1:django.contrib.sessions.cached_db"+djangoKey, djangoJSON(""), time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	id, err := store.Resolve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	client.FlushDB(t.Context())
	if got := store.Recheck(t.Context(), []session.Held{{Identity: id, Ticket: store.Ticket(r)}})[0]; !errors.Is(got.Err, session.ErrUncached) || !errors.Is(got.Err, session.ErrUnavailable) {
		t.Errorf("open connection: got %v, want %v", got.Err, session.ErrUncached)
	}
	if _, err := store.Resolve(t.Context(), r); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("handshake: got %v, want %v", err, session.ErrUnavailable)
	}
}

// TestNamesOfOtherThingsInTheCache: a cookie names nothing but sessions.
func TestNamesOfOtherThingsInTheCache(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	store := newCacheStore(t, client, session.DjangoCacheOptions{})
	for _, key := range []string{"d_db" + djangoKey, "_db" + djangoKey[:29], "short", djangoKey + "x", strings.ToUpper(djangoKey), djangoKey[:31] + "*", djangoKey[:31] + "é"} {
		client.Set(t.Context(), ":1:django.contrib.sessions.cache"+key, djangoJSON(""), time.Hour)
		r := request("sessionid=" + key)
		if _, err := store.Resolve(t.Context(), r); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%q: got %v, want %v", key, err, session.ErrInvalid)
		}
		if got := store.Ticket(r); got != "" {
			t.Errorf("%q: got ticket %q, want none", key, got)
		}
	}
	if _, err := store.Resolve(t.Context(), request("")); !errors.Is(err, session.ErrNone) || store.Bears(request("")) || !store.Bears(request("sessionid=x")) {
		t.Errorf("no cookie: got %v, want %v", err, session.ErrNone)
	}
	// Of equal names the last counts, as in Django.
	client.Set(t.Context(), ":1:django.contrib.sessions.cache"+djangoKey, djangoJSON(""), time.Hour)
	if _, err := store.Resolve(t.Context(), request("sessionid=other; sessionid="+djangoKey)); err != nil {
		t.Errorf("the last of two: got %v", err)
	}
}

func TestDjangoOptions(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	good := session.DjangoOptions{Cookie: "sessionid"}
	for name, o := range map[string]session.DjangoCacheOptions{
		"no cookie":       {},
		"age of 1 ms":     {DjangoOptions: session.DjangoOptions{Cookie: "s", MaxAge: time.Millisecond}},
		"timeout below 0": {DjangoOptions: session.DjangoOptions{Cookie: "s", Timeout: -1}},
		"engine":          {DjangoOptions: good, Engine: "file"},
		"format":          {DjangoOptions: good, Format: "msgpack"},
	} {
		if _, err := session.NewDjangoCacheStore(client, o); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := session.NewDjangoSignedStore([][]byte{[]byte("k")}, session.DjangoOptions{}); err == nil {
		t.Error("signed cookies without a name: got no error")
	}
}

func FuzzDjangoSession(f *testing.F) {
	for _, c := range readCached(f).Cases {
		f.Add(string(c.Value), c.Format == "pickle")
	}
	for _, more := range []string{`,"active_organization_id":7`, `,"active_organization_id":null`, `,"active_organization_id":1e3`, ""} {
		f.Add(djangoJSON(more), false)
	}
	f.Fuzz(func(t *testing.T, value string, pickled bool) {
		o := session.DjangoCacheOptions{Format: session.DjangoJSON}
		if pickled {
			o.Format = session.DjangoPickle
		}
		id, err := session.DecodeDjango(value, o)
		switch {
		case err != nil && (id.UserID != "" || !errors.Is(err, session.ErrNone) && !errors.Is(err, session.ErrInvalid)):
			t.Errorf("got %+v, %v", id, err)
		case err == nil && !orgctx.ValidUserID(id.UserID):
			t.Errorf("got user %q", id.UserID)
		case err == nil && !pickled:
			var members map[string]json.RawMessage
			if json.Unmarshal([]byte(value), &members) != nil || string(bytes.Trim(members["_auth_user_id"], `"`)) == "" {
				t.Errorf("got %+v of %q", id, value)
			}
		}
	})
}

func FuzzDjangoSignedCookie(f *testing.F) {
	v := readSigned(f)
	for _, c := range v.Cases {
		f.Add("sessionid=" + c.Cookie)
		f.Add(`theme=dark; sessionid="` + c.Cookie + `"`)
	}
	good := make(map[string]bool)
	for _, c := range v.Cases {
		good[c.Cookie] = true
	}
	store := newSignedStore(f, v.keys("K1"), session.DjangoOptions{Now: func() time.Time { return start }})
	f.Fuzz(func(t *testing.T, header string) {
		r := request(header)
		id, err := store.Resolve(context.Background(), r)
		value, _ := session.CookieValue(r, "sessionid")
		if err == nil && (!good[value] || id.UserID == "" || !start.Before(id.Expires)) {
			t.Errorf("%s: got %+v", strconv.Quote(header), id)
		}
	})
}
