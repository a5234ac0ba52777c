package gateway_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/jwks"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// jwtVault has tokens of an identity provider.
func jwtVault(tb testing.TB, s *setup) *vault {
	tb.Helper()
	issuer := testkit.NewIssuer()
	return issuerVault(tb, s, issuer, func(context.Context) ([]byte, error) { return issuer.Set(), nil })
}

// issuerVault has tokens of an issuer, whose keys the store fetches.
func issuerVault(tb testing.TB, s *setup, issuer *testkit.Issuer, fetch func(context.Context) ([]byte, error)) *vault {
	tb.Helper()
	keys, err := jwks.New(jwks.Options{Fetch: fetch})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(keys.Close)
	store, err := session.NewJWTStore(session.JWTOptions{Keys: keys, Issuer: testkit.IssuerName, Audience: testkit.Audience, Now: s.now})
	if err != nil {
		tb.Fatal(err)
	}
	return &vault{Store: store, name: testkit.TokenCookie, mint: func(user string, org orgctx.ID, end time.Time) string {
		return testkit.TokenCookie + "=" + issuer.Token(testkit.Claims(user, org.String(), end), map[string]any{"sid": rand.Text()})
	}}
}

// tokened is the store of tokens, with its issuer.
func tokened(issuer *testkit.Issuer) storeKind {
	return storeKind{name: "jwt", sealed: true, open: func(tb testing.TB, s *setup) *vault {
		tb.Helper()
		return issuerVault(tb, s, issuer, func(context.Context) ([]byte, error) { return issuer.Set(), nil })
	}}
}

// adas are the claims of ada's token that ends after a time.
func adas(life time.Duration) map[string]any {
	return testkit.Claims("ada", "acme", time.Now().Add(life))
}

// TestTokenNeedsNoOrigin: a request with a token in the header Authorization cannot be forged by a page, so programs need no
// Origin. One with a foreign Origin is refused all the same, and so is one whose identity comes from elsewhere.
func TestTokenNeedsNoOrigin(t *testing.T) { overEach(t, tokenNeedsNoOriginOver) }

func tokenNeedsNoOriginOver(t *testing.T, over via) {
	t.Helper()
	issuer := testkit.NewIssuer()
	token := issuer.Token(adas(time.Hour))
	header, listed := []string{"Bearer " + token}, []string{"orgcast.v1, orgcast.jwt." + token}
	n := startNode(t, setup{over: over, store: tokened(issuer)})
	mixed := startNode(t, setup{over: over, store: storeKind{open: func(tb testing.TB, s *setup) *vault {
		tb.Helper()
		tokens, cookies := tokened(issuer).open(tb, s), cookieVault(tb, s)
		first, ok1 := cookies.Store.(session.Part)
		second, ok2 := tokens.Store.(session.Part)
		if !ok1 || !ok2 {
			tb.Fatal("a store cannot be one of several")
		}
		cookies.Store = session.Several{first, second}
		return cookies
	}}})
	own := mixed.cookie("ada", "acme")
	for name, test := range map[string]struct {
		n      *node
		header http.Header
		status int
	}{
		"in the header":                    {n, http.Header{"Authorization": header}, 0},
		"in the header, of a page":         {n, http.Header{"Authorization": header, "Origin": {origin}}, 0},
		"in the header, of a foreign page": {n, http.Header{"Authorization": header, "Origin": {"https://evil.test"}}, 403},
		"in the header, of no page":        {n, http.Header{"Authorization": header, "Origin": {"null"}}, 403},
		"in the list":                      {n, http.Header{"Sec-Websocket-Protocol": listed}, 403},
		"in the list, of a page":           {n, http.Header{"Sec-Websocket-Protocol": listed, "Origin": {origin}}, 0},
		"no token":                         {n, http.Header{}, 403},
		"another scheme":                   {n, http.Header{"Authorization": {"Basic YTpi"}}, 403},
		"a cookie decides":                 {mixed, http.Header{"Authorization": header, "Cookie": {own}}, 403},
		"a cookie decides, of a page":      {mixed, http.Header{"Authorization": header, "Cookie": {own}, "Origin": {origin}}, 0},
		"next to an unused store":          {mixed, http.Header{"Authorization": header}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := over.handshake("/ws/events", test.header)
			if test.status != 0 {
				test.n.expectRefused(t, h, test.status, "origin", false)
				return
			}
			c, answer := testkit.Try(t, test.n.dial, h)
			if c == nil {
				t.Fatalf("got %d %s, want a connection", answer.Status, answer.Body)
			}
			defer func() { _ = c.Close() }()
			for name, values := range answer.Header {
				if strings.Contains(strings.Join(values, " "), token) {
					t.Errorf("header %s of the answer has the token", name)
				}
			}
		})
	}
}

// TestTokenIsNotLogged: neither a token that is refused nor one that is accepted, wherever it stands, is in the log.
func TestTokenIsNotLogged(t *testing.T) { overEach(t, tokenIsNotLoggedOver) }

func tokenIsNotLoggedOver(t *testing.T, over via) {
	t.Helper()
	log, logs := observed()
	issuer := testkit.NewIssuer()
	n := startNode(t, setup{over: over, store: tokened(issuer), log: log})
	wrong := issuer.Token(adas(time.Hour), map[string]any{"aud": "another"})
	for _, header := range []http.Header{
		{"Authorization": {"Bearer " + wrong}}, {"Origin": {origin}, "Sec-Websocket-Protocol": {"orgcast.jwt." + wrong + ", orgcast.v1"}},
	} {
		n.expectRefused(t, over.handshake("/ws/events", header), 401, "unauthenticated", false)
	}
	good := issuer.Token(adas(time.Hour))
	over.connect(t, n.dial, "/ws/events", http.Header{"Authorization": {"Bearer " + good}}).Close()
	testkit.Eventually(t, "the reason is in the log", func() bool {
		text := fmt.Sprint(logs.All())
		return strings.Contains(text, "--jwt-audience")
	})
	for _, line := range logs.All() {
		if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, good[20:60]) || strings.Contains(text, wrong[20:60]) {
			t.Errorf("the log has a token: %s", text)
		}
	}
}

// renewal is what a connection sends to prolong its session.
func renewal(token string) string { return fmt.Sprintf(`{"type":"token","token":%q}`, token) }

// last returns the newest frame.
func (r *viewing) last() (frame map[string]any) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.frames) > 0 {
		_ = json.Unmarshal([]byte(r.frames[len(r.frames)-1]), &frame) // what is no JSON has no fields
	}
	return frame
}

// TestRenewedTokenKeepsTheSocket: a newer token on the open socket moves the end of the session. One of another user or
// organization is refused and changes nothing, and so is a forged one.
func TestRenewedTokenKeepsTheSocket(t *testing.T) {
	issuer := testkit.NewIssuer()
	leasedInBubbleOf(t, []storeKind{tokened(issuer)}, func(b *bubbled) {
		t := b.tb
		if b.on.over == streams {
			return // which send nothing; a client comes back with another token
		}
		const life = 10 * time.Second
		enter := func() *viewing {
			return b.enter(testkit.TokenCookie + "=" + issuer.Token(adas(life), map[string]any{"sid": "s-1"}))
		}
		renewed, left := enter(), enter()
		time.Sleep(life / 2)
		later := adas(time.Hour)
		for name, wrong := range map[string]map[string]any{
			"another user": {"sub": "grace"}, "another organization": {"org_id": "globex"}, "another session": {"sid": "s-2"},
			"another audience": {"aud": "another"}, "expired": {"exp": time.Now().Unix()},
		} {
			_ = left.client.SendText(renewal(issuer.Token(later, map[string]any{"sid": "s-1"}, wrong)))
			if got := left.last(); got["type"] != "error" || got["code"] != "token_refused" {
				t.Errorf("%s: got %v, want the error token_refused", name, got)
			}
		}
		_ = left.client.SendText(renewal(issuer.Token(later, map[string]any{"sid": "s-1"}) + "x"))
		if got := left.last(); got["code"] != "token_refused" {
			t.Errorf("forged: got %v, want the error token_refused", got)
		}
		_ = left.client.SendText(`{"type":"token","token":7}`)
		if got := left.last(); got["code"] != "bad_message" {
			t.Errorf("not a text: got %v, want the error bad_message", got)
		}
		_ = renewed.client.SendText(renewal(issuer.Token(later, map[string]any{"sid": "s-1"})))
		if got := renewed.last(); got["type"] != "token_accepted" || got["expires_at"] != float64(later["exp"].(int64)) {
			t.Errorf("got %v, want token_accepted with the new end", got)
		}
		time.Sleep(life)
		if reason := b.expectEnd(left, 4401); reason != `{"retry":"once"}` {
			t.Errorf("at the end of the first token: got %q, want that the client may come back with a newer one", reason)
		}
		expectBetween(t, "end of the session", left.lasted, life-time.Second, life+time.Second)
		b.expectOpen(renewed, "acme", "after the end of the first token")
		time.Sleep(2 * time.Hour)
		b.expectEnd(renewed, 4401)
		expectBetween(t, "end of the session", renewed.lasted, time.Hour, time.Hour+life)
	})
}

// TestRevocationsHoldForTokens: whatever was announced or recorded ends connections with tokens, and no newer token of the
// same session brings one back.
func TestRevocationsHoldForTokens(t *testing.T) {
	issuer := testkit.NewIssuer()
	for name, message := range map[string]lease.Message{
		"session":      {Type: lease.SessionEnded, SessionID: "s-1"},
		"user":         {Type: lease.UserDisabled, UserID: "ada"},
		"organization": {Type: lease.OrganizationSuspended, Organization: orgOf("acme")},
	} {
		leasedInBubbleOf(t, []storeKind{tokened(issuer)}, func(b *bubbled) {
			c := b.enter(testkit.TokenCookie + "=" + issuer.Token(adas(time.Hour), map[string]any{"sid": "s-1"}))
			if n := b.keeper.Apply(message); n != 1 {
				b.tb.Errorf("%s: got %d connections, want 1", name, n)
			}
			_ = c.client.SendText(renewal(issuer.Token(adas(2*time.Hour), map[string]any{"sid": "s-1"})))
			code := 4403
			if name == "session" {
				code = 4401
			}
			b.expectEnd(c, code)
		})
	}
}

// TestRoleOfANewerToken: it is known at once, and the client comes back with it.
func TestRoleOfANewerToken(t *testing.T) {
	issuer := testkit.NewIssuer()
	leasedInBubbleOf(t, []storeKind{tokened(issuer)}, func(b *bubbled) {
		if b.on.over == streams {
			return
		}
		c := b.enter(testkit.TokenCookie + "=" + issuer.Token(adas(time.Hour)))
		_ = c.client.SendText(renewal(issuer.Token(adas(2*time.Hour), map[string]any{"role": "admin"})))
		if reason := b.expectEnd(c, 4409); reason != "role changed" {
			b.tb.Errorf("got %q, want that the role has changed", reason)
		}
	})
}

// TestKeysRotateWhileSocketsAreOpen: sockets stay, renew with a token of the new key, and come in with it, although the
// gateway has never seen that key.
func TestKeysRotateWhileSocketsAreOpen(t *testing.T) {
	issuer, fetches := testkit.NewIssuer(), new(atomic.Int64)
	kind := storeKind{name: "jwt", sealed: true, open: func(tb testing.TB, s *setup) *vault {
		tb.Helper()
		return issuerVault(tb, s, issuer, func(context.Context) ([]byte, error) { fetches.Add(1); return issuer.Set(), nil })
	}}
	leasedInBubbleOf(t, []storeKind{kind}, func(b *bubbled) {
		t := b.tb
		enter := func() *viewing { return b.enter(testkit.TokenCookie + "=" + issuer.Token(adas(time.Minute))) }
		old := []*viewing{enter(), enter()}
		time.Sleep(jwks.Interval)
		before := fetches.Load()
		issuer.Rotate()
		fresh := enter()
		for _, c := range old {
			b.expectOpen(c, "acme", "rotated")
			if b.on.over == webSockets {
				_ = c.client.SendText(renewal(issuer.Token(adas(time.Hour))))
				if got := c.last(); got["type"] != "token_accepted" {
					t.Errorf("got %v, want token_accepted", got)
				}
			}
		}
		if got := fetches.Load() - before; got != 1 {
			t.Errorf("got %d fetches, want 1", got)
		}
		b.expectOpen(fresh, "acme", "all")
		time.Sleep(2 * time.Minute)
		for _, c := range old {
			if b.on.over == webSockets {
				b.expectOpen(c, "acme", "after the end of the token of the old key")
			}
		}
	})
}

// TestOnlyTokensRenew: a connection that came with a cookie knows no frame of this kind.
func TestOnlyTokensRenew(t *testing.T) {
	issuer := testkit.NewIssuer()
	for name, n := range map[string]*node{
		"without leases": startNode(t, setup{}), "with leases": leaseNode(t, never, 2*never, setup{}).node,
	} {
		c := n.subscribe("ada", "acme", "all")
		if err := c.SendText(renewal(issuer.Token(adas(time.Hour)))); err != nil {
			t.Fatal(err)
		}
		if text, err := c.Next(); err != nil || !strings.Contains(text, `"unknown_type"`) {
			t.Errorf("%s: got %s, %v, want the error unknown_type", name, text, err)
		}
	}
}
