package demo

import (
	"context"
	"errors"
	"net/http"

	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// signInRequest requests a session of one of the demo's people.
type signInRequest struct {
	User string `json:"user"`
	// Seat is empty for the browser's one real session cookie.
	Seat string `json:"seat"`
}

// signIn starts a session and sets its cookie, without a password, because it is a demo.
func (d *server) signIn(w http.ResponseWriter, r *http.Request) {
	req, err := readSignIn(r)
	if err != nil {
		refuseBody(w, err)
		return
	}
	if !checkSeat(w, req.Seat) {
		return
	}
	person, ok := findPerson(req.User)
	if !ok {
		refuse(w, http.StatusNotFound, codeUnknownUser, "nobody of that name lives in this demo")
		return
	}
	org, err := person.organizationID()
	if err != nil {
		d.fail(w, "sign in", err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	if kept, err := d.vacate(ctx, r, req.Seat, person.User, org); err != nil {
		d.unavailable(w, "vacate a seat", err)
		return
	} else if kept {
		answer(w, http.StatusOK, person)
		return
	}
	minted, err := d.Minter.Mint(ctx, session.Grant{UserID: person.User, Organization: org})
	if err != nil { // only storing the session can fail
		d.unavailable(w, "sign in", err)
		return
	}
	cookie := *minted //nolint:gosec // its attributes follow
	cookie.Name = d.seatCookie(req.Seat)
	cookie.Path = "/"
	cookie.HttpOnly = true
	cookie.SameSite = http.SameSiteLaxMode
	cookie.Secure = r.TLS != nil // the demo speaks plain HTTP on loopback, where curl keeps no Secure cookie
	http.SetCookie(w, &cookie)
	answer(w, http.StatusOK, person)
}

// vacate ends the session at a seat, because its cookie is about to be replaced. Otherwise another
// tab would be one person on its socket and another in its requests. A session of the same person
// in the same organization is kept, so that several tabs can show the same people.
func (d *server) vacate(ctx context.Context, r *http.Request, seat, user string, org orgctx.ID) (kept bool, err error) {
	if seat == "" || d.Authority == nil {
		return false, nil
	}
	seated := d.atSeat(r, seat)
	id, err := d.Sessions.Resolve(ctx, seated)
	switch {
	case errors.Is(err, session.ErrUnavailable):
		return false, err
	case err != nil:
		return false, nil //nolint:nilerr // no one sits there
	case id.UserID == user && id.Organization == org:
		return true, nil
	}
	if _, err := d.Authority.Sessions.SignOut(ctx, seated); err != nil {
		return false, err
	}
	return false, d.Authority.Announcer.Announce(ctx, lease.Message{Type: lease.SessionEnded, SessionID: id.SessionID})
}

// readSignIn parses a form or a JSON object.
func readSignIn(r *http.Request) (signInRequest, error) {
	if isJSON(r) {
		var req signInRequest
		err := readJSON(r, &req)
		return req, err
	}
	if err := r.ParseForm(); err != nil {
		return signInRequest{}, err
	}
	return signInRequest{User: r.PostForm.Get("user"), Seat: r.PostForm.Get("seat")}, nil
}
