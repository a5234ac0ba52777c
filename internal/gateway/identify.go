package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/tracing"
)

// Identify finds out who makes a plain HTTP request: an active member of the active organization of a session, as for
// a connection. A request that changes something must come from a page that may connect. Identify answers a request
// that it refuses, and returns false.
func (s *Server) Identify(w http.ResponseWriter, r *http.Request) (session.Identity, bool) {
	if s.crossOrigin.Check(r) != nil && (r.Header.Get("Origin") == "" || !s.now.Load().options.Origins.Allows(r)) {
		s.refuse(w, r, refusal{err: ErrOrigin})
		return session.Identity{}, false
	}
	if retry, ok := s.limits.pace.take(); !ok {
		s.refuse(w, r, refusal{err: PaceError{RetryAfter: retry}})
		return session.Identity{}, false
	}
	identity, err := s.identify(r.Context(), r, new(consumer.Route))
	if err != nil {
		s.refuse(w, r, refusal{err: err, who: owner{identity.Organization, identity.UserID}})
		return session.Identity{}, false
	}
	return identity, true
}

// identify finds out who asks and whether the directory lets that user act for that organization.
// With an error it returns what it knows of the identity, which is nothing without a valid session.
func (s *Server) identify(ctx context.Context, r *http.Request, route *consumer.Route) (session.Identity, error) {
	options := &s.now.Load().options
	ctx, span := options.Tracer.Start(ctx, "identify", tracing.Internal)
	defer span.End()
	identity, err := options.Sessions.Resolve(ctx, r)
	switch {
	case errors.Is(err, session.ErrUnavailable):
		return session.Identity{}, fmt.Errorf("%w: %w", ErrOverloaded, err)
	case errors.Is(err, session.ErrDisabled):
		return session.Identity{}, fmt.Errorf("%w: %w", consumer.ErrForbidden, err)
	case errors.Is(err, orgctx.ErrNoOrganization):
		return session.Identity{}, err
	case err != nil:
		return session.Identity{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	case !time.Now().Before(identity.Expires):
		return session.Identity{}, fmt.Errorf("%w: %w", ErrUnauthenticated, session.ErrExpired)
	case identity.Organization.IsZero() && route.WithoutOrganization:
		return identity, nil
	case identity.Organization.IsZero():
		return identity, orgctx.ErrNoOrganization
	}
	member, err := options.Membership.Admit(ctx, identity.Organization, identity.UserID)
	switch {
	case errors.Is(err, directory.ErrUnavailable):
		return identity, fmt.Errorf("%w: %w", ErrOverloaded, err)
	case err != nil:
		// Unknown, suspended and not a member look alike from outside.
		return identity, fmt.Errorf("%w: %w", consumer.ErrForbidden, err)
	}
	if !member.InSession {
		identity.Role = member.Role
	}
	return identity, nil
}
