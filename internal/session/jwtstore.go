package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"orgcast/internal/jwks"
	"orgcast/internal/orgctx"
)

const (
	// TokenProtocol begins the entry of the list of subprotocols in which a page sends its token, since
	// pages cannot set headers of a WebSocket. No answer repeats it.
	TokenProtocol = "orgcast.jwt." //nolint:gosec // a name
	// maxToken is the longest token, in bytes. Most take less than 1,000.
	maxToken = 8 << 10
	// tokenLeeway is how far the clock of an identity provider may be ahead of ours. It does not prolong
	// a token.
	tokenLeeway = 30 * time.Second
)

// tokenMethods are the algorithms that count. All of them have a public key: with a secret one, everyone who can
// verify a token could make one, and a public key must never be taken for a secret.
var tokenMethods = []string{ //nolint:gochecknoglobals // constant
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// JWTOptions are those of [NewJWTStore].
type JWTOptions struct {
	// Keys are those of the identity provider.
	Keys KeySource
	// Issuer and Audience must be in each token. Without them, tokens for another program would count.
	Issuer, Audience string
	// Names of claims: the user ("sub" by default), the active organization ("org_id"), the role ("role") and the
	// session ("sid").
	UserClaim, OrganizationClaim, RoleClaim, SessionClaim string
	// MaxAge is the longest time for which a token may still last; default [DefaultMaxAge]. Revocations are not
	// remembered for longer.
	MaxAge time.Duration
	// Now tells the time; default [time.Now].
	Now func() time.Time
}

// KeySource finds the public key for a token's header. Package jwks implements it, with its errors. It may wait for
// the network, for a bounded time, and is safe for concurrent use.
type KeySource interface {
	Key(ctx context.Context, token *jwt.Token) (any, error)
	// Ready returns nil if there are keys.
	Ready(ctx context.Context) error
}

// Renewer is a Store whose clients may prolong their sessions on an open connection.
type Renewer interface {
	// Renew reads a newer token for a session that stands. It returns the ticket and the standing from now on, or an
	// error: [ErrNotRenewable] if sessions of this kind have no tokens, [ErrUnavailable], or another one that means
	// that the token does not continue the session.
	Renew(ctx context.Context, h Held, token string) (ticket string, s Standing, err error)
}

// Native is an extra ability of a Store.
type Native interface {
	// Native reports whether the store that decides about a request takes its identity from something that no page
	// can make a browser send to another site, so that a request without an Origin is not a forged one.
	Native(r *http.Request) bool
}

// Errors of [Renewer].
var (
	// ErrNotRenewable is returned for a session that did not begin with a token.
	ErrNotRenewable = errors.New("session: no token prolongs it")
	// ErrOther is returned for a good token of another user, organization or session.
	ErrOther = errors.New("session: the token is of another user, organization or session")
)

// JWTStore takes the identity from a signed token (RFC 7519) in the header Authorization or, from pages, in the list
// of subprotocols. The session ends with its token, unless a newer one is brought ([Renewer]).
//
// Nothing is kept on the server. Logging out of the identity provider ends no token that was issued before; only a
// revocation does ([Revocations]).
//
// It is safe for concurrent use.
type JWTStore struct {
	opts   JWTOptions
	parser *jwt.Parser
}

var (
	_ Part    = (*JWTStore)(nil)
	_ Renewer = (*JWTStore)(nil)
	_ Native  = (*JWTStore)(nil)
)

// NewJWTStore returns a store.
func NewJWTStore(o JWTOptions) (*JWTStore, error) {
	o.UserClaim = cmp.Or(o.UserClaim, "sub")
	o.OrganizationClaim = cmp.Or(o.OrganizationClaim, "org_id")
	o.RoleClaim = cmp.Or(o.RoleClaim, "role")
	o.SessionClaim = cmp.Or(o.SessionClaim, "sid")
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Keys == nil:
		return nil, errors.New("session: Keys must be set")
	case o.Issuer == "" || o.Audience == "":
		return nil, errors.New("session: Issuer and Audience must be set")
	}
	return &JWTStore{opts: o, parser: jwt.NewParser(
		jwt.WithValidMethods(tokenMethods), jwt.WithIssuer(o.Issuer), jwt.WithAudience(o.Audience), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(tokenLeeway), jwt.WithTimeFunc(o.Now), jwt.WithJSONNumber(), jwt.WithStrictDecoding(),
	)}, nil
}

// Ready returns nil if tokens can be verified, else [ErrUnavailable].
func (s *JWTStore) Ready(ctx context.Context) error { return wrapUnavailable(s.opts.Keys.Ready(ctx)) }

// bearerTokens returns the tokens that a request has. native says that one is in the header Authorization, which no
// page of another site can set.
func bearerTokens(r *http.Request) (tokens []string, native bool) {
	for _, value := range r.Header.Values("Authorization") {
		if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "Bearer") {
			tokens, native = append(tokens, strings.TrimSpace(token)), true
		}
	}
	for _, value := range r.Header.Values("Sec-Websocket-Protocol") {
		for entry := range strings.SplitSeq(value, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(entry), TokenProtocol); ok {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens, native
}

// Bears implements [Bearer].
func (*JWTStore) Bears(r *http.Request) bool {
	tokens, _ := bearerTokens(r)
	return len(tokens) > 0
}

// Native implements [Native]: the token is in the header Authorization, which pages can set only with the consent that
// the gateway gives to its own origins, and only in requests that have an Origin.
func (*JWTStore) Native(r *http.Request) bool {
	_, native := bearerTokens(r)
	return native
}

// Resolve implements [Resolver]. It waits for keys only if the token names an unknown one.
func (s *JWTStore) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	tokens, _ := bearerTokens(r)
	switch {
	case len(tokens) == 0:
		return Identity{}, ErrNone
	case len(tokens) > 1:
		return Identity{}, fmt.Errorf("%w: two tokens", ErrInvalid)
	}
	t, err := s.read(ctx, tokens[0])
	return t.identity, err
}

// Ticket implements [Store]. It says what Recheck needs, and opens nothing. The token was verified when the request
// was accepted, moments before.
func (s *JWTStore) Ticket(r *http.Request) string {
	tokens, _ := bearerTokens(r)
	if len(tokens) != 1 {
		return ""
	}
	claims := jwt.MapClaims{}
	if _, _, err := s.parser.ParseUnverified(tokens[0], claims); err != nil {
		return ""
	}
	t, err := s.token(tokens[0], claims)
	if err != nil {
		return ""
	}
	return t.ticket()
}

// Recheck implements [Store]. A token never changes its mind: only its time runs out, with [ErrStale], since the client
// may have a newer one.
func (s *JWTStore) Recheck(_ context.Context, held []Held) []Standing {
	now := s.opts.Now()
	out := make([]Standing, len(held))
	for i, h := range held {
		end, _, role, ok := parseTicket(h.Ticket)
		switch {
		case !ok:
			out[i] = Standing{Err: ErrNone}
		case !now.Before(end):
			out[i] = Standing{Err: ErrStale}
		default:
			out[i] = Standing{Expires: end, Role: role}
		}
	}
	return out
}

// Renew implements [Renewer].
func (s *JWTStore) Renew(ctx context.Context, h Held, token string) (ticket string, standing Standing, err error) {
	_, named, _, ok := parseTicket(h.Ticket)
	if !ok {
		return "", Standing{}, ErrNotRenewable
	}
	t, err := s.read(ctx, token)
	switch {
	case err != nil:
		return "", Standing{}, err
	case t.identity.UserID != h.Identity.UserID, t.identity.Organization != h.Identity.Organization,
		t.named != named, named && t.identity.SessionID != h.Identity.SessionID:
		return "", Standing{}, ErrOther
	}
	return t.ticket(), Standing{Expires: t.identity.Expires, Role: t.identity.Role}, nil
}

// accessToken is what a token says.
type accessToken struct {
	identity Identity
	named    bool // it names its session
}

// ticket returns the end, in milliseconds, whether the token names its session, and the role.
func (t accessToken) ticket() string {
	named := "-"
	if t.named {
		named = "sid"
	}
	return strconv.FormatInt(t.identity.Expires.UnixMilli(), 10) + " " + named + " " + t.identity.Role
}

func parseTicket(ticket string) (end time.Time, named bool, role string, ok bool) {
	parts := strings.SplitN(ticket, " ", 3)
	if len(parts) != 3 {
		return time.Time{}, false, "", false
	}
	milliseconds, err := strconv.ParseInt(parts[0], 10, 64)
	return time.UnixMilli(milliseconds), parts[1] == "sid", parts[2], err == nil
}

// read verifies a token.
func (s *JWTStore) read(ctx context.Context, text string) (accessToken, error) {
	if len(text) > maxToken {
		return accessToken{}, fmt.Errorf("%w: the token is too long", ErrInvalid)
	}
	claims := jwt.MapClaims{}
	_, err := s.parser.ParseWithClaims(text, claims, func(token *jwt.Token) (any, error) { return s.opts.Keys.Key(ctx, token) })
	if err != nil {
		return accessToken{}, refused(err)
	}
	t, err := s.token(text, claims)
	if err != nil {
		return accessToken{}, err
	}
	now := s.opts.Now()
	switch {
	case !now.Before(t.identity.Expires): // the leeway does not count here
		return accessToken{}, ErrExpired
	case t.identity.Expires.Sub(now) > s.opts.MaxAge:
		return accessToken{}, fmt.Errorf("%w: the token lasts for longer than --session-max-age, for which revocations are remembered", ErrInvalid)
	}
	return t, nil
}

// refused says what is wrong with a token, without quoting it.
func refused(err error) error {
	if errors.Is(err, jwks.ErrUnavailable) {
		return fmt.Errorf("%w: the keys of the identity provider could not be fetched", ErrUnavailable)
	}
	if errors.Is(err, jwt.ErrTokenExpired) {
		return ErrExpired
	}
	for _, reason := range []struct {
		err  error
		text string
	}{
		{jwks.ErrUnknownKey, "the token's key is not among those of --jwt-jwks-url"},
		{jwks.ErrUnusable, "the token names no key, or one for another algorithm"},
		{jwt.ErrTokenMalformed, "not a token"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience than --jwt-audience"},
		{jwt.ErrTokenInvalidIssuer, "the token is from another issuer than --jwt-issuer"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks exp, iss or aud"},
		{jwt.ErrTokenNotValidYet, "the token does not count yet"},
		{jwt.ErrTokenUsedBeforeIssued, "the token was issued in the future"},
		{jwt.ErrTokenSignatureInvalid, "the token has no valid signature of an algorithm that counts"},
	} {
		if errors.Is(err, reason.err) {
			return fmt.Errorf("%w: %s", ErrInvalid, reason.text)
		}
	}
	return ErrInvalid
}

// token returns what claims say.
func (s *JWTStore) token(text string, claims jwt.MapClaims) (t accessToken, err error) {
	wrong := func(claim string) error { return fmt.Errorf("%w: claim %s", ErrInvalid, claim) }
	if t.identity.UserID, err = textOrInteger(claims[s.opts.UserClaim]); err != nil || !orgctx.ValidUserID(t.identity.UserID) {
		return accessToken{}, wrong(s.opts.UserClaim)
	}
	org, err := textOrInteger(claims[s.opts.OrganizationClaim])
	if err == nil && org != "" {
		t.identity.Organization, err = orgctx.ParseID(org)
	}
	if err != nil {
		return accessToken{}, wrong(s.opts.OrganizationClaim)
	}
	switch role := claims[s.opts.RoleClaim].(type) {
	case nil:
	case string:
		if role != "" && !orgctx.ValidRole(role) {
			return accessToken{}, wrong(s.opts.RoleClaim)
		}
		t.identity.Role = role
	default:
		return accessToken{}, wrong(s.opts.RoleClaim)
	}
	sid, err := textOrInteger(claims[s.opts.SessionClaim])
	if err != nil {
		return accessToken{}, wrong(s.opts.SessionClaim)
	}
	t.named = sid != ""
	switch {
	case orgctx.ValidID(sid):
		t.identity.SessionID = sid
	case t.named:
		t.identity.SessionID = DeriveID(sid)
	default:
		t.identity.SessionID = DeriveID(text)
	}
	end, err := claims.GetExpirationTime()
	if err != nil || end == nil || end.Unix() > maxUnix {
		return accessToken{}, wrong("exp")
	}
	t.identity.Expires = end.Time
	return t, nil
}
