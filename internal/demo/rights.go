package demo

import (
	"context"
	"errors"
	"net/http"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// Authority makes the changes that a web application would make: to sessions and memberships. It
// announces each change, so that open sockets end at once.
type Authority struct {
	Sessions  *session.RedisStore
	Members   *directory.Redis
	Announcer *lease.Announcer
}

// rightsRequest requests a change on behalf of the person at a seat.
type rightsRequest struct {
	fromSeat

	// Organization is the target of a switch.
	Organization string `json:"organization_id"`
	// Active is the new status of the membership or the organization.
	Active bool `json:"active"`
	// Quiet suppresses the announcement, to show how long nodes take to notice.
	Quiet bool `json:"quiet"`
}

// codeNoMember is the code of a switch to an organization to which the person does not belong.
const codeNoMember = "no_member"

// change returns an endpoint that changes the rights of a seat's person. do changes the record and
// returns the announcement, or the zero message for none.
func (d *server) change(do func(ctx context.Context, r *http.Request, id session.Identity, req rightsRequest) (lease.Message, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req rightsRequest
		if !readRequest(w, r, &req) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		// Not identify: a suspended person must be able to undo it, or the demo would be over.
		seated := d.atSeat(r, req.Seat)
		id, err := d.Sessions.Resolve(ctx, seated)
		if errors.Is(err, session.ErrUnavailable) {
			d.unavailable(w, "resolve session", err)
			return
		}
		if err != nil {
			refuse(w, http.StatusUnauthorized, codeNotSignedIn, "nobody is signed in")
			return
		}
		m, err := do(ctx, seated, id, req)
		if err == nil && m.Type != "" && !req.Quiet {
			err = d.Authority.Announcer.Announce(ctx, m)
		}
		switch {
		case errors.Is(err, directory.ErrUnknown):
			refuse(w, http.StatusForbidden, codeNoMember, "not a member of that organization")
		case errors.Is(err, orgctx.ErrInvalidID), errors.Is(err, orgctx.ErrNoOrganization):
			refuse(w, http.StatusBadRequest, codeNoOrganization, "no such organization")
		case err != nil:
			d.unavailable(w, "change rights", err)
		default:
			if m.Type == lease.SessionEnded {
				http.SetCookie(w, &http.Cookie{Name: d.seatCookie(req.Seat), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil}) //nolint:gosec // the demo speaks plain HTTP on loopback
			}
			answer(w, http.StatusOK, struct {
				User string `json:"user_id"`
			}{id.UserID})
		}
	}
}

// reset restores every organization and membership. It requires no session, because there may be no
// one left who can sign in.
func (d *server) reset(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	if err := seed(ctx, d.Authority.Members); err != nil {
		d.unavailable(w, "reset", err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// signOut ends the session of a seat, and no other session of the same person.
func (d *server) signOut(ctx context.Context, r *http.Request, id session.Identity, _ rightsRequest) (lease.Message, error) {
	_, err := d.Authority.Sessions.SignOut(ctx, r)
	return lease.Message{Type: lease.SessionEnded, SessionID: id.SessionID}, err
}

// switchOrganization makes another organization of the person active.
func (d *server) switchOrganization(ctx context.Context, r *http.Request, id session.Identity, req rightsRequest) (lease.Message, error) {
	org, err := orgctx.ParseID(req.Organization)
	if err != nil {
		return lease.Message{}, err
	}
	if _, err := d.Authority.Members.Admit(ctx, org, id.UserID); err != nil {
		return lease.Message{}, err
	}
	err = d.Authority.Sessions.SetOrganization(ctx, r, org)
	return lease.Message{Type: lease.OrganizationSwitched, SessionID: id.SessionID, Organization: org}, err
}

// changeMember removes the seat's person from the active organization, or restores the membership.
func (d *server) changeMember(ctx context.Context, _ *http.Request, id session.Identity, req rightsRequest) (lease.Message, error) {
	if id.Organization.IsZero() {
		return lease.Message{}, orgctx.ErrNoOrganization
	}
	if req.Active {
		return lease.Message{}, d.Authority.Members.PutMember(ctx, id.Organization, id.UserID, directory.Active, directory.Member{Role: role})
	}
	err := d.Authority.Members.RemoveMember(ctx, id.Organization, id.UserID)
	return lease.Message{Type: lease.MemberRemoved, Organization: id.Organization, UserID: id.UserID}, err
}

// changeOrganization suspends the active organization, or restores it.
func (d *server) changeOrganization(ctx context.Context, _ *http.Request, id session.Identity, req rightsRequest) (lease.Message, error) {
	if id.Organization.IsZero() {
		return lease.Message{}, orgctx.ErrNoOrganization
	}
	if req.Active {
		return lease.Message{}, d.Authority.Members.PutOrganization(ctx, id.Organization, directory.Active)
	}
	err := d.Authority.Members.PutOrganization(ctx, id.Organization, directory.Suspended)
	return lease.Message{Type: lease.OrganizationSuspended, Organization: id.Organization}, err
}
