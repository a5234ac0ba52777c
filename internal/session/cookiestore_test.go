package session_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/securecookie"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

var (
	keyA = session.KeyPair{Hash: bytes.Repeat([]byte("a"), 32), Block: bytes.Repeat([]byte("b"), 32)}
	keyB = session.KeyPair{Hash: bytes.Repeat([]byte("c"), 64)}
	// compareIdentities lets cmp look at an opaque organization.
	compareIdentities = cmp.Comparer(func(a, b orgctx.ID) bool { return a == b })
)

func newCookieStore(tb testing.TB, o session.Options, keys ...session.KeyPair) *session.CookieStore {
	tb.Helper()
	s, err := session.NewCookieStore(keys, o)
	if err != nil {
		tb.Fatalf("NewCookieStore: %v", err)
	}
	return s
}

// signValues returns the text of a cookie with the values, signed with keyB by gorilla itself.
func signValues(tb testing.TB, name string, values map[any]any) string {
	tb.Helper()
	text, err := securecookie.EncodeMulti(name, values, securecookie.New(keyB.Hash, nil))
	if err != nil {
		tb.Fatalf("sign: %v", err)
	}
	return text
}

type gorillaVectors struct {
	Keys  map[string]string `json:"keys"`
	Cases []struct {
		ID          string `json:"id"`
		CookieName  string `json:"cookie_name"`
		CookieValue string `json:"cookie_value"`
		Verify      struct {
			KeyPairs [][2]*string `json:"key_pairs"`
			MaxAge   int64        `json:"max_age"`
			Now      int64        `json:"now"`
		} `json:"verify"`
		Expect struct {
			Accept bool `json:"accept"`
		} `json:"expect"`
	} `json:"cases"`
}

func TestCookieStoreReadsWhatGorillaWrote(t *testing.T) {
	var vectors gorillaVectors
	readVectors(t, "gorilla-cookies.json", &vectors)
	// Where the verdict is not simply gorilla's, or the refusal not simply ErrInvalid.
	wantErr := map[string]error{
		"go-types": session.ErrNone, "go-empty": session.ErrNone, // good cookies that name nobody
		"go-age-over": session.ErrExpired, "go-tamper-empty": session.ErrNone,
	}
	if len(vectors.Cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range vectors.Cases {
		t.Run(c.ID, func(t *testing.T) {
			var keys []session.KeyPair
			for _, pair := range c.Verify.KeyPairs {
				k := session.KeyPair{Hash: mustBase64(t, vectors.Keys[*pair[0]])}
				if pair[1] != nil {
					k.Block = mustBase64(t, vectors.Keys[*pair[1]])
				}
				keys = append(keys, k)
			}
			s := newCookieStore(t, session.Options{
				Name:   c.CookieName,
				MaxAge: time.Duration(c.Verify.MaxAge) * time.Second,
				Now:    func() time.Time { return time.Unix(c.Verify.Now, 0) },
			}, keys...)
			got, err := s.Resolve(t.Context(), request(c.CookieName+"="+c.CookieValue))

			want := wantErr[c.ID]
			if want == nil && !c.Expect.Accept {
				want = session.ErrInvalid
			}
			if want != nil {
				if !errors.Is(err, want) {
					t.Fatalf("got %+v, %v, want %v", got, err, want)
				}
				return
			}
			if err != nil {
				t.Fatalf("got %v, want an identity", err)
			}
			identity := session.Identity{
				UserID: "42", Organization: testkit.Org(t, "7"), SessionID: got.SessionID,
				Expires: time.Unix(1767225600+c.Verify.MaxAge, 0),
			}
			if c.ID == "go-int-key" || c.ID == "go-flash" { // have no organization
				identity.Organization = orgctx.ID{}
			}
			if diff := cmp.Diff(identity, got, compareIdentities); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
			if !orgctx.ValidID(got.SessionID) {
				t.Errorf("SessionID %q has no valid form", got.SessionID)
			}
		})
	}
}

func TestCookieStoreValues(t *testing.T) {
	const end = 4102444800 // in 2100, beyond the age of any cookie signed now
	tests := map[string]struct {
		values  map[any]any
		user    string
		org     string
		wantErr error
	}{
		"text":                    {map[any]any{"user_id": "ann", "active_organization_id": "acme"}, "ann", "acme", nil},
		"integers":                {map[any]any{"user_id": 7, "active_organization_id": uint8(8)}, "7", "8", nil},
		"integer beyond 2^53":     {map[any]any{"user_id": int64(9007199254740993), "active_organization_id": uint64(math.MaxUint64)}, "9007199254740993", "18446744073709551615", nil},
		"no organization":         {map[any]any{"user_id": "ann"}, "ann", "", nil},
		"organization 0":          {map[any]any{"user_id": "ann", "active_organization_id": 0}, "ann", "", nil},
		"organization empty":      {map[any]any{"user_id": "ann", "active_organization_id": ""}, "ann", "", nil},
		"other values":            {map[any]any{"user_id": "ann", 7: "x", "theme": []string{"dark"}}, "ann", "", nil},
		"expires later than age":  {map[any]any{"user_id": "ann", "expires_at": int64(end)}, "ann", "", nil},
		"no user":                 {map[any]any{"active_organization_id": "acme"}, "", "", session.ErrNone},
		"user empty":              {map[any]any{"user_id": ""}, "", "", session.ErrInvalid},
		"user 0":                  {map[any]any{"user_id": 0}, "", "", session.ErrInvalid},
		"user true":               {map[any]any{"user_id": true}, "", "", session.ErrInvalid},
		"user 7.0":                {map[any]any{"user_id": 7.0}, "", "", session.ErrInvalid},
		"user bytes":              {map[any]any{"user_id": []byte("ann")}, "", "", session.ErrInvalid},
		"user not ASCII":          {map[any]any{"user_id": "änn"}, "änn", "", nil},
		"user with a bar":         {map[any]any{"user_id": "auth0|123"}, "auth0|123", "", nil},
		"user with colon":         {map[any]any{"user_id": "ann:group:x"}, "ann:group:x", "", nil},
		"user with dots alone":    {map[any]any{"user_id": ".."}, "..", "", nil},
		"user of many bytes":      {map[any]any{"user_id": strings.Repeat("ä", 64)}, strings.Repeat("ä", 64), "", nil},
		"user too long":           {map[any]any{"user_id": strings.Repeat("a", 129)}, "", "", session.ErrInvalid},
		"user with a space":       {map[any]any{"user_id": "ann b"}, "", "", session.ErrInvalid},
		"user with a line end":    {map[any]any{"user_id": "ann\n"}, "", "", session.ErrInvalid},
		"user written backwards":  {map[any]any{"user_id": "a\u202enn"}, "", "", session.ErrInvalid},
		"user not UTF-8":          {map[any]any{"user_id": "ann\xff"}, "", "", session.ErrInvalid},
		"organization with a bar": {map[any]any{"user_id": "ann", "active_organization_id": "auth0|123"}, "", "", session.ErrInvalid},
		"organization true":       {map[any]any{"user_id": "ann", "active_organization_id": true}, "", "", session.ErrInvalid},
		"organization 7.0":        {map[any]any{"user_id": "ann", "active_organization_id": 7.0}, "", "", session.ErrInvalid},
		"organization with brace": {map[any]any{"user_id": "ann", "active_organization_id": "a}"}, "", "", session.ErrInvalid},
		"expired":                 {map[any]any{"user_id": "ann", "expires_at": 1}, "", "", session.ErrExpired},
		"expires text":            {map[any]any{"user_id": "ann", "expires_at": "4102444800"}, "", "", session.ErrInvalid},
		"expires negative":        {map[any]any{"user_id": "ann", "expires_at": -1}, "", "", session.ErrInvalid},
		"expires too late":        {map[any]any{"user_id": "ann", "expires_at": uint64(math.MaxUint64)}, "", "", session.ErrInvalid},
		"session id number":       {map[any]any{"user_id": "ann", "session_id": 1}, "", "", session.ErrInvalid},
		"session id empty":        {map[any]any{"user_id": "ann", "session_id": ""}, "", "", session.ErrInvalid},
	}
	s := newCookieStore(t, session.Options{}, keyB)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := signValues(t, session.DefaultName, test.values)
			got, err := s.Resolve(t.Context(), request(session.DefaultName+"="+text))
			if !errors.Is(err, test.wantErr) {
				t.Fatalf("got %+v, %v, want error %v", got, err, test.wantErr)
			}
			if got.UserID != test.user || got.Organization.String() != test.org {
				t.Errorf("got user %q of %q, want %q of %q", got.UserID, got.Organization, test.user, test.org)
			}
			if err == nil && time.Until(got.Expires) > session.DefaultMaxAge {
				t.Errorf("got expiry %v, want at most %v from now", got.Expires, session.DefaultMaxAge)
			}
		})
	}
}

func TestCookieStoreMint(t *testing.T) {
	s := newCookieStore(t, session.Options{}, keyA)
	org := testkit.Org(t, "acme")
	c, err := s.Mint(t.Context(), session.Grant{UserID: "ann", Organization: org, Lifetime: time.Hour})
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 3600 {
		t.Errorf("attributes: got %+v", c)
	}
	r := request("")
	r.AddCookie(c)
	got, err := s.Resolve(t.Context(), r)
	if err != nil {
		t.Fatalf("Resolve: %v", err)
	}
	if got.UserID != "ann" || got.Organization != org {
		t.Errorf("got user %q of %q, want ann of acme", got.UserID, got.Organization)
	}

	other, err := s.Mint(t.Context(), session.Grant{UserID: "ann", Organization: org, Lifetime: time.Hour})
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	r = request("")
	r.AddCookie(other)
	if again, err := s.Resolve(t.Context(), r); err != nil || again.SessionID == got.SessionID {
		t.Errorf("second session: got ID %q, %v, want another than %q", again.SessionID, err, got.SessionID)
	}
}

func TestCookieStoreMintRefusesBadGrants(t *testing.T) {
	s := newCookieStore(t, session.Options{}, keyA)
	tests := map[string]session.Grant{
		"no user":         {},
		"bad user":        {UserID: "a b"},
		"too long":        {UserID: "ann", Lifetime: session.DefaultMaxAge + time.Second},
		"negative":        {UserID: "ann", Lifetime: -time.Second},
		"part of seconds": {UserID: "ann", Lifetime: 1500 * time.Millisecond},
	}
	for name, g := range tests {
		t.Run(name, func(t *testing.T) {
			if c, err := s.Mint(t.Context(), g); err == nil {
				t.Errorf("Mint(%+v): got %v, want an error", g, c)
			}
		})
	}
}

func TestCookieStoreExpiresToTheSecond(t *testing.T) {
	now := time.Now()
	s := newCookieStore(t, session.Options{Now: func() time.Time { return now }}, keyA)
	c, err := s.Mint(t.Context(), session.Grant{UserID: "ann", Lifetime: time.Minute})
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	r := request(c.Name + "=" + c.Value)
	end := time.Unix(now.Unix()+60, 0)

	now = end.Add(-time.Nanosecond)
	if got, err := s.Resolve(t.Context(), r); err != nil || !got.Expires.Equal(end) {
		t.Errorf("just before the end: got expiry %v, %v, want %v", got.Expires, err, end)
	}
	now = end
	if _, err := s.Resolve(t.Context(), r); !errors.Is(err, session.ErrExpired) {
		t.Errorf("at the end: got %v, want ErrExpired", err)
	}
}

// A cookie lives no longer than its age allows, whatever is written inside.
func TestCookieStoreAgeEndsASession(t *testing.T) {
	now := time.Now()
	s := newCookieStore(t, session.Options{MaxAge: time.Minute, Now: func() time.Time { return now }}, keyB)
	r := request(session.DefaultName + "=" + signValues(t, session.DefaultName, map[any]any{"user_id": "ann", "expires_at": now.Add(time.Hour).Unix()}))

	got, err := s.Resolve(t.Context(), r)
	if err != nil {
		t.Fatalf("Resolve: %v", err)
	}
	now = got.Expires.Add(time.Second)
	if _, err := s.Resolve(t.Context(), r); !errors.Is(err, session.ErrExpired) {
		t.Errorf("a minute and a second later: got %v, want ErrExpired", err)
	}
}

func TestCookieStoreRotatesKeys(t *testing.T) {
	before := newCookieStore(t, session.Options{}, keyB)
	during := newCookieStore(t, session.Options{}, keyA, keyB)
	after := newCookieStore(t, session.Options{}, keyA)
	mint := func(s *session.CookieStore) *http.Request {
		c, err := s.Mint(t.Context(), session.Grant{UserID: "ann"})
		if err != nil {
			t.Fatalf("Mint: %v", err)
		}
		return request(c.Name + "=" + c.Value)
	}
	tests := map[string]struct {
		r    *http.Request
		s    *session.CookieStore
		want error
	}{
		"old cookie, both keys":      {mint(before), during, nil},
		"new cookie, both keys":      {mint(during), during, nil},
		"the first key writes":       {mint(during), after, nil},
		"old cookie, key taken away": {mint(before), after, session.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := test.s.Resolve(t.Context(), test.r); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestCookieStoreRefusesForgeries(t *testing.T) {
	s := newCookieStore(t, session.Options{Name: "s"}, keyB)
	good := signValues(t, "s", map[any]any{"user_id": "ann"})
	old := []byte(good)
	old[len(old)/2] ^= 1
	tests := map[string]struct {
		header string
		want   error
	}{
		"no cookie":          {"", session.ErrNone},
		"empty":              {"s=", session.ErrNone},
		"good":               {"s=" + good, nil},
		"good in quotes":     {`s="` + good + `"`, nil},
		"good is last":       {"s=x; s=" + good, session.ErrInvalid},
		"good is first":      {"s=" + good + "; s=x", nil},
		"bit flipped":        {"s=" + string(old), session.ErrInvalid},
		"truncated":          {"s=" + good[:len(good)-8], session.ErrInvalid},
		"doubled":            {"s=" + good + good, session.ErrInvalid},
		"of another name":    {"s=" + signValues(t, "t", map[any]any{"user_id": "ann"}), session.ErrInvalid},
		"huge":               {"s=" + strings.Repeat("A", 1<<20), session.ErrInvalid},
		"not ASCII":          {"s=grün" + good, session.ErrNone},
		"smuggled separator": {`s="` + good + `; s=x"`, session.ErrNone},
		"line end": {`s="` + good + `
"`, session.ErrNone},
		"payload not a map":   {"s=" + encodeAny(t, "text"), session.ErrInvalid},
		"signature of no key": {"s=" + base64.URLEncoding.EncodeToString([]byte("1767225600|AA==|")), session.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := s.Resolve(t.Context(), request(test.header)); !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func encodeAny(tb testing.TB, v any) string {
	tb.Helper()
	text, err := securecookie.New(keyB.Hash, nil).Encode("s", v)
	if err != nil {
		tb.Fatalf("sign: %v", err)
	}
	return text
}

// Two spellings of one cookie are one session, so a revocation catches both.
func TestCookieStoreSpellingDoesNotChangeSessionID(t *testing.T) {
	s := newCookieStore(t, session.Options{Name: "s"}, keyB)
	for n := range 64 {
		text := signValues(t, "s", map[any]any{"user_id": "ann", "pad": strings.Repeat("x", n)})
		if !strings.HasSuffix(text, "=") {
			continue
		}
		last := strings.TrimRight(text, "=")
		other := last[:len(last)-1] + string(last[len(last)-1]+1) + text[len(last):]
		a, errA := s.Resolve(t.Context(), request("s="+text))
		b, errB := s.Resolve(t.Context(), request("s="+other))
		if errA != nil {
			t.Fatalf("Resolve: %v", errA)
		}
		if errB != nil {
			continue // the next character was of another meaning
		}
		if a != b {
			t.Errorf("got %+v and %+v, want one identity", a, b)
		}
		return
	}
	t.Error("no cookie with a second spelling came up")
}

func TestOptionsAreChecked(t *testing.T) {
	tests := map[string]struct {
		o    session.Options
		keys []session.KeyPair
		ok   bool
	}{
		"defaults":                {session.Options{}, []session.KeyPair{keyA}, true},
		"plain HTTP":              {session.Options{Insecure: true}, []session.KeyPair{keyA}, true},
		"host prefix":             {session.Options{Name: "__Host-s"}, []session.KeyPair{keyA}, true},
		"host prefix, plain HTTP": {session.Options{Name: "__Host-s", Insecure: true}, []session.KeyPair{keyA}, false},
		"host prefix and domain":  {session.Options{Name: "__Host-s", Domain: "example.com"}, []session.KeyPair{keyA}, false},
		"None over plain HTTP":    {session.Options{SameSite: http.SameSiteNoneMode, Insecure: true}, []session.KeyPair{keyA}, false},
		"bad name":                {session.Options{Name: "a b"}, []session.KeyPair{keyA}, false},
		"negative age":            {session.Options{MaxAge: -time.Second}, []session.KeyPair{keyA}, false},
		"no keys":                 {session.Options{}, nil, false},
		"short hash key":          {session.Options{}, []session.KeyPair{{Hash: []byte("short")}}, false},
		"odd block key":           {session.Options{}, []session.KeyPair{{Hash: keyA.Hash, Block: []byte("short")}}, false},
		"empty block key":         {session.Options{}, []session.KeyPair{{Hash: keyA.Hash, Block: []byte{}}}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := session.NewCookieStore(test.keys, test.o)
			if (err == nil) != test.ok {
				t.Fatalf("NewCookieStore: got %v, want ok %v", err, test.ok)
			}
			if err != nil {
				return
			}
			c, err := s.Mint(t.Context(), session.Grant{UserID: "ann"})
			if err != nil {
				t.Fatalf("Mint: %v", err)
			}
			if c.Secure == test.o.Insecure || !c.HttpOnly {
				t.Errorf("got Secure %v, HttpOnly %v", c.Secure, c.HttpOnly)
			}
		})
	}
}

func FuzzCookieStore(f *testing.F) {
	s := newCookieStore(f, session.Options{Name: "s"}, keyB)
	good := signValues(f, "s", map[any]any{"user_id": "ann", "session_id": "x"})
	f.Add(good)
	f.Add(good[:40])
	f.Add(strings.Repeat("=", 100))
	f.Add("x; s=" + good)
	var vectors gorillaVectors
	readVectors(f, "gorilla-cookies.json", &vectors)
	for _, c := range vectors.Cases {
		f.Add(c.CookieValue)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := s.Resolve(t.Context(), request("s="+value))
		if err != nil {
			if got != (session.Identity{}) {
				t.Errorf("got %+v beside %v, want nothing", got, err)
			}
			return
		}
		// Only who has the key makes a good cookie, and there is one.
		if got.UserID != "ann" || got.SessionID != "x" {
			t.Errorf("%q: got %+v, want the one good session", value, got)
		}
	})
}
