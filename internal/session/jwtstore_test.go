package session_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"orgcast/internal/jwks"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// newJWTStore returns a store of an issuer's tokens, at the time of the test's start.
func newJWTStore(tb testing.TB, issuer *testkit.Issuer, o session.JWTOptions) *session.JWTStore {
	tb.Helper()
	keys, err := jwks.New(jwks.Options{Fetch: func(context.Context) ([]byte, error) { return issuer.Set(), nil }})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(keys.Close)
	o.Keys, o.Issuer, o.Audience = keys, testkit.IssuerName, testkit.Audience
	if o.Now == nil {
		o.Now = func() time.Time { return start }
	}
	store, err := session.NewJWTStore(o)
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

// bearing returns a request with a token in its header.
func bearing(token string) *http.Request {
	r := request("")
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// hour are the claims of ada's token for an hour.
func hour() map[string]any { return testkit.Claims("ada", "acme", start.Add(time.Hour)) }

func TestTokenSaysWho(t *testing.T) {
	issuer := testkit.NewIssuer()
	for name, test := range map[string]struct {
		o    session.JWTOptions
		more map[string]any
		want session.Identity
	}{
		"plain":              {session.JWTOptions{}, nil, session.Identity{UserID: "ada"}},
		"role and session":   {session.JWTOptions{}, map[string]any{"role": "admin", "sid": "s-1"}, session.Identity{UserID: "ada", Role: "admin", SessionID: "s-1"}},
		"long session":       {session.JWTOptions{}, map[string]any{"sid": "a.b/c"}, session.Identity{UserID: "ada", SessionID: session.DeriveID("a.b/c")}},
		"number":             {session.JWTOptions{}, map[string]any{"sub": 9007199254740993}, session.Identity{UserID: "9007199254740993"}},
		"several audiences":  {session.JWTOptions{}, map[string]any{"aud": []string{"x", testkit.Audience}}, session.Identity{UserID: "ada"}},
		"a clock ahead":      {session.JWTOptions{}, map[string]any{"iat": start.Add(20 * time.Second).Unix(), "nbf": start.Add(20 * time.Second).Unix()}, session.Identity{UserID: "ada"}},
		"claims of the site": {session.JWTOptions{UserClaim: "email", RoleClaim: "https://x/role"}, map[string]any{"email": "ada@acme.test", "https://x/role": "viewer"}, session.Identity{UserID: "ada@acme.test", Role: "viewer"}},
	} {
		t.Run(name, func(t *testing.T) {
			token := issuer.Token(hour(), test.more)
			got, err := newJWTStore(t, issuer, test.o).Resolve(t.Context(), bearing(token))
			want := test.want
			want.Organization, want.Expires = mustID(t, "acme"), start.Add(time.Hour)
			if want.SessionID == "" {
				want.SessionID = session.DeriveID(token)
			}
			if err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
	store := newJWTStore(t, issuer, session.JWTOptions{})
	if got, err := store.Resolve(t.Context(), bearing(issuer.Token(hour(), map[string]any{"org_id": nil}))); err != nil || !got.Organization.IsZero() {
		t.Errorf("no organization: got %+v, %v", got, err)
	}
}

func mustID(tb testing.TB, text string) orgctx.ID {
	tb.Helper()
	id, err := orgctx.ParseID(text)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// TestWhereTokensStand: in the header Authorization or in the list of subprotocols, nowhere else, and only one.
func TestWhereTokensStand(t *testing.T) {
	issuer := testkit.NewIssuer()
	store := newJWTStore(t, issuer, session.JWTOptions{})
	token := issuer.Token(hour())
	for name, test := range map[string]struct {
		header http.Header
		native bool
		want   error
	}{
		"header":              {http.Header{"Authorization": {"Bearer " + token}}, true, nil},
		"scheme in lower":     {http.Header{"Authorization": {"bearer  " + token}}, true, nil},
		"subprotocol":         {http.Header{"Sec-Websocket-Protocol": {"orgcast.v1, orgcast.jwt." + token}}, false, nil},
		"two lines":           {http.Header{"Sec-Websocket-Protocol": {"orgcast.v1", "orgcast.jwt." + token}}, false, nil},
		"subprotocol, native": {http.Header{"Authorization": {"Basic YTpi"}, "Sec-Websocket-Protocol": {"orgcast.jwt." + token}}, false, nil},
		"cookie":              {http.Header{"Cookie": {"token=" + token}}, false, session.ErrNone},
		"another scheme":      {http.Header{"Authorization": {"Basic " + token}}, false, session.ErrNone},
		"no scheme":           {http.Header{"Authorization": {token}}, false, session.ErrNone},
		"both":                {http.Header{"Authorization": {"Bearer " + token}, "Sec-Websocket-Protocol": {"orgcast.jwt." + token}}, true, session.ErrInvalid},
		"two headers":         {http.Header{"Authorization": {"Bearer " + token, "Bearer " + token}}, true, session.ErrInvalid},
		"empty":               {http.Header{"Authorization": {"Bearer "}}, true, session.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Header: test.header}
			if _, err := store.Resolve(t.Context(), r); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if got := store.Bears(r); got != !errors.Is(test.want, session.ErrNone) {
				t.Errorf("bears a token: got %v", got)
			}
			if got := store.Native(r); got != test.native {
				t.Errorf("needs no Origin: got %v, want %v", got, test.native)
			}
			if ticket := store.Ticket(r); (ticket != "") != (test.want == nil) || strings.Contains(ticket, token[:20]) {
				t.Errorf("ticket: got %q", ticket)
			}
		})
	}
}

// refuse sees that a store refuses a token, and that the error does not quote it.
func refuse(t *testing.T, store *session.JWTStore, token string, want error, says string) {
	t.Helper()
	got, err := store.Resolve(t.Context(), bearing(token))
	if !errors.Is(err, want) || got != (session.Identity{}) || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("got %+v, %v, want %v: %s", got, err, want, says)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 && strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("the error quotes the token: %v", err)
		}
	}
}

// TestAlgNoneIsRefused: a token without a signature is good for nobody.
func TestAlgNoneIsRefused(t *testing.T) {
	issuer := testkit.NewIssuer()
	store := newJWTStore(t, issuer, session.JWTOptions{})
	token := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(hour()))
	token.Header["kid"] = "key-1"
	text, err := token.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	refuse(t, store, text, session.ErrInvalid, "no valid signature")
	for _, alg := range []string{"none", "None", "NONE", ""} {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + alg + `","kid":"key-1"}`))
		_, rest, _ := strings.Cut(issuer.Token(hour()), ".")
		claims, signature, _ := strings.Cut(rest, ".")
		refuse(t, store, header+"."+claims+".", session.ErrInvalid, "")
		refuse(t, store, header+"."+claims+"."+signature, session.ErrInvalid, "")
	}
}

// TestPublicKeyIsNoSecret: a token signed with HMAC is refused, with a public key as the secret in each form that it has,
// and with a secret that the provider shows by mistake.
func TestPublicKeyIsNoSecret(t *testing.T) {
	issuer := testkit.NewIssuer()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	exponent := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(private.E)).Bytes())
	modulus := base64.RawURLEncoding.EncodeToString(private.N.Bytes())
	for kid, alg := range map[string]any{"rsa": "RS256", "any": nil} {
		issuer.AddKey(map[string]any{"kty": "RSA", "kid": kid, "alg": alg, "n": modulus, "e": exponent})
	}
	secret := []byte("a secret that everyone can read in the set")
	issuer.AddKey(map[string]any{"kty": "oct", "kid": "oct", "alg": "HS256", "k": base64.RawURLEncoding.EncodeToString(secret)})
	store := newJWTStore(t, issuer, session.JWTOptions{})

	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{
		"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "modulus": private.N.Bytes(),
		"PKCS 1": x509.MarshalPKCS1PublicKey(&private.PublicKey), "text": []byte(modulus), "oct": secret, "none": {},
	}
	for _, kid := range []string{"rsa", "any", "oct", "key-1"} {
		for name, secret := range secrets {
			for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
				token := jwt.NewWithClaims(method, jwt.MapClaims(hour()))
				token.Header["kid"] = kid
				text, err := token.SignedString(secret)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				refuse(t, store, text, session.ErrInvalid, "no valid signature of an algorithm that counts")
			}
		}
		signed := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(hour()))
		signed.Header["kid"] = kid
		text, err := signed.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		if kid == "rsa" || kid == "any" { // else nothing is shown
			if _, err := store.Resolve(t.Context(), bearing(text)); err != nil {
				t.Errorf("%s, signed with the private key: got %v", kid, err)
			}
		} else {
			refuse(t, store, text, session.ErrInvalid, "")
		}
	}
}

// TestWrongClaimsAreRefused has a name for each.
func TestWrongClaimsAreRefused(t *testing.T) {
	issuer := testkit.NewIssuer()
	store := newJWTStore(t, issuer, session.JWTOptions{})
	for name, test := range map[string]struct {
		more map[string]any
		want error
		says string
	}{
		"wrong audience":          {map[string]any{"aud": "https://other.example.com"}, session.ErrInvalid, "--jwt-audience"},
		"audience begins alike":   {map[string]any{"aud": testkit.Audience + "/x"}, session.ErrInvalid, "--jwt-audience"},
		"no audience":             {map[string]any{"aud": nil}, session.ErrInvalid, "lacks"},
		"wrong issuer":            {map[string]any{"iss": "https://evil.example.com/"}, session.ErrInvalid, "--jwt-issuer"},
		"no issuer":               {map[string]any{"iss": nil}, session.ErrInvalid, "lacks"},
		"missing expiry":          {map[string]any{"exp": nil}, session.ErrInvalid, "lacks"},
		"expiry is text":          {map[string]any{"exp": "tomorrow"}, session.ErrInvalid, ""},
		"expired":                 {map[string]any{"exp": start.Add(-time.Hour).Unix()}, session.ErrExpired, ""},
		"expired a second ago":    {map[string]any{"exp": start.Add(-time.Second).Unix()}, session.ErrExpired, ""},
		"expires now":             {map[string]any{"exp": start.Unix()}, session.ErrExpired, ""},
		"lasts too long":          {map[string]any{"exp": start.Add(session.DefaultMaxAge + time.Hour).Unix()}, session.ErrInvalid, "--session-max-age"},
		"lasts forever":           {map[string]any{"exp": int64(1e15)}, session.ErrInvalid, ""},
		"not yet":                 {map[string]any{"nbf": start.Add(time.Minute).Unix()}, session.ErrInvalid, "does not count yet"},
		"issued in the future":    {map[string]any{"iat": start.Add(time.Minute).Unix()}, session.ErrInvalid, "in the future"},
		"no user":                 {map[string]any{"sub": nil}, session.ErrInvalid, "claim sub"},
		"empty user":              {map[string]any{"sub": ""}, session.ErrInvalid, ""},
		"user is true":            {map[string]any{"sub": true}, session.ErrInvalid, ""},
		"user with a space":       {map[string]any{"sub": "a b"}, session.ErrInvalid, "claim sub"},
		"organization with star":  {map[string]any{"org_id": "*"}, session.ErrInvalid, "claim org_id"},
		"organizations in a list": {map[string]any{"org_id": []string{"acme"}}, session.ErrInvalid, "claim org_id"},
		"role with a space":       {map[string]any{"role": "a b"}, session.ErrInvalid, "claim role"},
		"roles in a list":         {map[string]any{"role": []string{"admin"}}, session.ErrInvalid, "claim role"},
		"session is a list":       {map[string]any{"sid": []int{1}}, session.ErrInvalid, "claim sid"},
	} {
		t.Run(name, func(t *testing.T) { refuse(t, store, issuer.Token(hour(), test.more), test.want, test.says) })
	}
}

// TestForgedTokensAreRefused: of a good token every part counts, and so does the key.
func TestForgedTokensAreRefused(t *testing.T) {
	issuer := testkit.NewIssuer()
	store := newJWTStore(t, issuer, session.JWTOptions{})
	good := issuer.Token(hour())
	header, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	other := strings.Split(issuer.Token(hour(), map[string]any{"sub": "grace"}), ".")
	for name, token := range map[string]string{
		"claims of another":    header + "." + other[1] + "." + signature,
		"signature of another": header + "." + claims + "." + other[2],
		"no signature":         header + "." + claims + ".",
		"two parts":            header + "." + claims,
		"four parts":           good + ".x",
		"padded":               good + "=",
		"cut":                  good[:len(good)-4],
		"a byte more":          good + "A",
		"nothing":              "x",
		"not base64":           "%.%.%",
		"too long":             good + strings.Repeat("A", 9000),
		"an array":             base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + claims + "." + signature,
	} {
		t.Run(name, func(t *testing.T) { refuse(t, store, token, session.ErrInvalid, "") })
	}
	stranger := testkit.NewIssuer() // whose key has the same id
	refuse(t, store, stranger.Token(hour()), session.ErrInvalid, "no valid signature")
	stranger.Rotate()
	refuse(t, store, stranger.Token(hour()), session.ErrInvalid, "--jwt-jwks-url")
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES384, jwt.MapClaims(hour()))
	for _, kid := range []any{"key-1", nil, 1, ""} {
		token.Header["kid"] = kid
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		refuse(t, store, text, session.ErrInvalid, "names no key, or one for another algorithm")
	}
}

// TestTokenEnds: an open connection lasts as long as its token, whose newer copy the client may have.
func TestTokenEnds(t *testing.T) {
	issuer, now := testkit.NewIssuer(), start
	store := newJWTStore(t, issuer, session.JWTOptions{Now: func() time.Time { return now }})
	r := bearing(issuer.Token(hour(), map[string]any{"role": "admin"}))
	id, err := store.Resolve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	held := []session.Held{{Identity: id, Ticket: store.Ticket(r)}, {Identity: id, Ticket: "what no store has made"}}
	out := store.Recheck(t.Context(), held)
	if out[0].Err != nil || !out[0].Expires.Equal(id.Expires) || out[0].Role != "admin" {
		t.Errorf("got %+v, want the token's end and role", out[0])
	}
	if !errors.Is(out[1].Err, session.ErrNone) {
		t.Errorf("another ticket: got %v, want %v", out[1].Err, session.ErrNone)
	}
	now = start.Add(time.Hour)
	if out = store.Recheck(t.Context(), held); !errors.Is(out[0].Err, session.ErrStale) {
		t.Errorf("at its end: got %v, want %v", out[0].Err, session.ErrStale)
	}
}

// TestRenew: a newer token of the same user, organization and session moves the end. Any other changes nothing.
func TestRenew(t *testing.T) {
	issuer := testkit.NewIssuer()
	store := newJWTStore(t, issuer, session.JWTOptions{})
	plain := newCookieStore(t, session.Options{}, keyB)
	several := session.Several{plain, store}
	sid := map[string]any{"sid": "s-1"}
	later := testkit.Claims("ada", "acme", start.Add(2*time.Hour))
	for name, test := range map[string]struct {
		first, next map[string]any
		want        error
	}{
		"same session":         {sid, sid, nil},
		"without sessions":     {nil, nil, nil},
		"another role":         {sid, map[string]any{"sid": "s-1", "role": "admin"}, nil},
		"earlier end":          {sid, map[string]any{"sid": "s-1", "exp": start.Add(time.Minute).Unix()}, nil},
		"another user":         {sid, map[string]any{"sid": "s-1", "sub": "grace"}, session.ErrOther},
		"another organization": {sid, map[string]any{"sid": "s-1", "org_id": "globex"}, session.ErrOther},
		"no organization":      {sid, map[string]any{"sid": "s-1", "org_id": nil}, session.ErrOther},
		"another session":      {sid, map[string]any{"sid": "s-2"}, session.ErrOther},
		"session left out":     {sid, nil, session.ErrOther},
		"session added":        {nil, sid, session.ErrOther},
		"expired":              {sid, map[string]any{"sid": "s-1", "exp": start.Unix()}, session.ErrExpired},
		"another audience":     {sid, map[string]any{"sid": "s-1", "aud": "x"}, session.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := bearing(issuer.Token(hour(), test.first))
			id, err := several.Resolve(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			h := session.Held{Identity: id, Ticket: several.Ticket(r)}
			next := issuer.Token(later, test.next)
			ticket, standing, err := several.Renew(t.Context(), h, next)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if test.want != nil {
				if standing != (session.Standing{}) {
					t.Errorf("got %+v, want nothing", standing)
				}
				return
			}
			again := several.Recheck(t.Context(), []session.Held{{Identity: id, Ticket: ticket}})[0]
			if !again.Expires.Equal(standing.Expires) || again.Role != standing.Role || again.Err != nil || standing.Expires.Equal(id.Expires) {
				t.Errorf("got %+v, and when asked again %+v, want the same later end", standing, again)
			}
		})
	}
	for _, ticket := range []string{"", "0", "0x", "9" + "1 - "} { // of a cookie, and of no store
		if _, _, err := several.Renew(t.Context(), session.Held{Ticket: ticket}, issuer.Token(later)); !errors.Is(err, session.ErrNotRenewable) {
			t.Errorf("ticket %q: got %v, want %v", ticket, err, session.ErrNotRenewable)
		}
	}
}

// TestNoKeysYet: while the provider's keys cannot be had, nobody can say whose a token is.
func TestNoKeysYet(t *testing.T) {
	keys, err := jwks.New(jwks.Options{Fetch: func(context.Context) ([]byte, error) { return nil, errors.New("refused") }})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	store, err := session.NewJWTStore(session.JWTOptions{Keys: keys, Issuer: "i", Audience: "a"})
	if err != nil {
		t.Fatal(err)
	}
	refuse(t, store, testkit.NewIssuer().Token(hour()), session.ErrUnavailable, "identity provider")
	if err := store.Ready(t.Context()); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("ready: got %v, want %v", err, session.ErrUnavailable)
	}
	for name, o := range map[string]session.JWTOptions{"no keys": {Issuer: "i", Audience: "a"}, "no issuer": {Keys: keys, Audience: "a"}, "no audience": {Keys: keys, Issuer: "i"}} {
		if _, err := session.NewJWTStore(o); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func FuzzToken(f *testing.F) {
	issuer := testkit.NewIssuer()
	store := newJWTStore(f, issuer, session.JWTOptions{})
	good := issuer.Token(hour())
	f.Add("Bearer "+good, "")
	f.Add("bearer "+good+" ", "orgcast.v1")
	f.Add("", "orgcast.v1, orgcast.jwt."+good)
	f.Add("Bearer eyJhbGciOiJub25lIn0.e30.", "orgcast.jwt.")
	f.Add("Bearer ..", "orgcast.jwt.a.b.c,orgcast.jwt.d")
	f.Fuzz(func(t *testing.T, authorization, protocols string) {
		r := &http.Request{Header: http.Header{"Authorization": {authorization}, "Sec-Websocket-Protocol": {protocols}}}
		id, err := store.Resolve(context.Background(), r)
		ticket := store.Ticket(r)
		if err == nil && (id.UserID != "ada" || !strings.Contains(authorization+protocols, good) || ticket == "") {
			t.Errorf("got %+v, ticket %q", id, ticket)
		}
		if err != nil && id != (session.Identity{}) {
			t.Errorf("got %+v with %v", id, err)
		}
		_ = store.Recheck(context.Background(), []session.Held{{Identity: id, Ticket: authorization}})
	})
}
