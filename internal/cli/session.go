package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/foreign"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

const sessionUsage = `
Mint or read a session, for tests and debugging:

  gateway session mint [SETTINGS] USER [ORGANIZATION]   prints NAME=VALUE for a Cookie header
  gateway session read [SETTINGS] VALUE                 prints what the cookie contains

It uses the same settings as serve, so the gateway accepts the cookies that it mints. Put a VALUE that
begins with "-" after "--". With several session stores, give NAME=VALUE, with the name of the cookie.
With --session-store=jwt, VALUE may be a token.
`

func sessionCommand(ctx context.Context, p *Process, args []string) error {
	s := new(settings)
	set := config.New("session", sessionUsage)
	var lifetime time.Duration
	s.declareRedis(set)
	s.declareState(set)
	s.declareSession(set)
	set.Duration(&lifetime, "lifetime", time.Hour, time.Second, "lifetime of a minted session")
	if len(args) == 0 && p.declared == nil { // else missing settings would be the answer
		return p.misused(set, nil)
	}
	rest, err := p.Parse(set, args, s.CheckRedis, s.CheckSessions)
	if err != nil {
		return err
	}
	verb := ""
	if len(rest) > 0 {
		verb = rest[0]
	}
	if (verb != "mint" || len(rest) < 2 || len(rest) > 3) && (verb != "read" || len(rest) != 2) {
		return p.misused(set, rest)
	}
	keys, err := s.Keyspace()
	if err != nil {
		return err
	}
	client, err := s.ConnectState()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // everything has been written by then
	store, err := app.NewSessions(&s.Options, client, keys)
	if err != nil {
		return err
	}
	defer store.Close()
	if verb == "mint" {
		return p.mint(ctx, store, rest[1:], lifetime)
	}
	revocations, err := session.NewRevocations(client, keys)
	if err != nil {
		return err
	}
	return p.read(ctx, store, revocations, s.credential(rest[1]), s.sessionHint)
}

// credential returns the headers of a request with a token or a cookie.
func (s *settings) credential(text string) http.Header {
	if s.HasStore(app.StoreJWT) && foreign.Look(text) == foreign.JWT {
		return http.Header{"Authorization": {"Bearer " + text}}
	}
	return http.Header{"Cookie": {s.cookieNamed(text)}}
}

// cookieNamed returns NAME=VALUE. If text is only the value, it uses the name of the first store's
// cookie.
func (s *settings) cookieNamed(text string) string {
	for _, name := range s.SessionCookies {
		if strings.HasPrefix(text, name+"=") {
			return text
		}
	}
	if name, _, _ := strings.Cut(text, "="); foreign.Named(name) != "" {
		return text // of another program; the answer says which
	}
	return s.SessionCookies[0] + "=" + text
}

func (p *Process) mint(ctx context.Context, store *app.Sessions, who []string, lifetime time.Duration) error {
	grant := session.Grant{UserID: who[0], Lifetime: lifetime}
	if len(who) == 2 {
		org, err := parseOrganization(who[1])
		if err != nil {
			return err
		}
		grant.Organization = org
	}
	if !orgctx.ValidUserID(grant.UserID) {
		return misuse(fmt.Errorf("user %q: %w", grant.UserID, orgctx.ErrInvalidUserID))
	}
	cookie, err := store.Mint(ctx, grant)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s=%s\n", cookie.Name, cookie.Value)
	return err
}

func (p *Process) read(ctx context.Context, store *app.Sessions, revocations *session.Revocations, credential http.Header, hint func(error) string) error {
	request := (&http.Request{Header: credential}).WithContext(ctx)
	identity, err := store.Resolve(ctx, request)
	if err != nil {
		return fmt.Errorf("session read: %w%s", err, hint(err))
	}
	organization, group := "(none)", "(none)"
	if !identity.Organization.IsZero() {
		organization, group = identity.Organization.String(), event.UserGroupName(identity.UserID)
	}
	revoked := "no"
	switch err := revocations.Check(ctx, []session.Held{{Identity: identity}})[0]; {
	case errors.Is(err, session.ErrEnded):
		revoked = "the session"
	case errors.Is(err, session.ErrDisabled):
		revoked = "the user"
	case err != nil: // the content of a signed cookie can be read without Redis
		revoked = "unknown: " + err.Error()
	}
	_, err = fmt.Fprintf(p.Stdout, "user          %s\norganization  %s\nuser group    %s\nsession       %s\nexpires       %s\nrevoked       %s\n",
		identity.UserID, organization, group, identity.SessionID, identity.Expires.UTC().Format(time.RFC3339), revoked)
	return err
}

// sessionHint returns advice if a session cannot be read.
func (s *settings) sessionHint(err error) string {
	if unreadable := new(session.UnreadableError); errors.As(err, &unreadable) {
		if kind := unreadable.Looks(); kind != "" {
			return fmt.Sprintf(": it looks like %s: %s", kind.Title(), kind.Advice())
		}
	}
	if !errors.Is(err, session.ErrInvalid) && !errors.Is(err, session.ErrNone) {
		return ""
	}
	names := []string{"the value", "--session-store"}
	for _, kind := range s.SessionStores { // each reads a session with the help of something else
		switch {
		case kind == app.StoreCookie && errors.Is(err, session.ErrInvalid):
			names = append(names, "--session-keys")
		case kind == app.StoreRedis && s.State.URL != "":
			names = append(names, "--redis-state", "--prefix")
		case kind == app.StoreRedis:
			names = append(names, "--redis", "--prefix")
		case kind == app.StoreHTTP:
			names = append(names, "--session-url")
		case kind == app.StoreJWT:
			names = append(names, "--jwt-issuer", "--jwt-audience")
		case kind == app.StoreDjangoSigned:
			names = append(names, "--django-secret-keys", "--django-backends")
		case kind == app.StoreDjangoCache:
			names = append(names, "--django-cache-redis", "--django-cache-prefix", "--django-cache-engine", "--django-backends")
		}
	}
	last := len(names) - 1
	return ": check " + strings.Join(names[:last], ", ") + " and " + names[last]
}
