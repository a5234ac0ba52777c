package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/jwks"
	"orgcast/internal/outgoing"
	"orgcast/internal/session"
)

const (
	// keySetTimeout bounds a fetch of a key set. Handshakes with a new key wait for it.
	keySetTimeout = 2 * time.Second
	// maxKeySet is the longest key set, in bytes. Most take less than 10,000.
	maxKeySet = 256 << 10
)

// JWT are the options of the store that reads tokens.
type JWT struct {
	// KeysURL is where the identity provider shows its public keys. Issuer and Audience must be in each
	// token.
	KeysURL, Issuer, Audience string
	// Names of claims.
	UserClaim, OrganizationClaim, RoleClaim, SessionClaim string
}

// jwtStore creates the store that reads tokens.
func (o *Options) jwtStore(p storeParts, s *Sessions) (session.Part, error) {
	endpoint, err := p.calls.Endpoint(outgoing.EndpointOptions{Purpose: "jwks", URL: o.JWT.KeysURL, Timeout: keySetTimeout, MaxAnswer: maxKeySet})
	if err != nil {
		return nil, fmt.Errorf("--jwt-jwks-url: %w", err)
	}
	log := p.log.Named("jwks")
	keys, err := jwks.New(jwks.Options{
		Fetch:  func(ctx context.Context) ([]byte, error) { return fetchKeySet(ctx, endpoint) },
		Failed: func(err error) { log.Warn("keys of the identity provider could not be fetched", zap.Error(err)) },
	})
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, keys.Close)
	return session.NewJWTStore(session.JWTOptions{
		Keys: keys, Issuer: o.JWT.Issuer, Audience: o.JWT.Audience, MaxAge: o.SessionMaxAge,
		UserClaim: o.JWT.UserClaim, OrganizationClaim: o.JWT.OrganizationClaim, RoleClaim: o.JWT.RoleClaim, SessionClaim: o.JWT.SessionClaim,
	})
}

func fetchKeySet(ctx context.Context, endpoint *outgoing.Endpoint) ([]byte, error) {
	answer, err := endpoint.Get(ctx)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("the identity provider answered %d", answer.Status)
	}
	return answer.Body, nil
}

// checkJWT checks combinations of the options of tokens.
func (o *Options) checkJWT() error {
	if !o.HasStore(StoreJWT) {
		return nil
	}
	var errs []error
	for _, required := range []struct{ name, value, what string }{
		{"jwt-jwks-url", o.JWT.KeysURL, "where the identity provider shows its public keys"},
		{"jwt-issuer", o.JWT.Issuer, "the claim iss of its tokens"},
		{"jwt-audience", o.JWT.Audience, "the claim aud of tokens for this gateway, or tokens for any other program would open it"},
	} {
		if required.value == "" {
			errs = append(errs, fmt.Errorf("--%s: required with --session-store=jwt: %s", required.name, required.what))
		}
	}
	return errors.Join(errs...)
}

// jwtWarnings returns what is probably not intended, or not known, about tokens.
func (o *Options) jwtWarnings() (list []string) {
	list = append(list, "--session-store=jwt: a logout at the identity provider ends no token that was issued before; such sessions stay until the token expires, unless their end is announced: let tokens expire after minutes")
	if strings.HasPrefix(o.JWT.KeysURL, "http://") {
		list = append(list, "--jwt-jwks-url: begins with http://: anyone who can change the answer on its way can make tokens; use https:// beyond your own network")
	}
	return list
}
