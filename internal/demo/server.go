package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// Codes of refusals. They are stable; error texts of ours never leave.
const (
	codeBadRequest     = "bad_request"
	codeForeignOrigin  = "foreign_origin"
	codeUnknownUser    = "unknown_user"
	codeUnknownGroup   = "unknown_group"
	codeNotSignedIn    = "not_signed_in"
	codeNoOrganization = "no_organization"
	codeForbidden      = "forbidden"
	codeNotFound       = "not_found"
	codeTooLarge       = "too_large"
	codeUnavailable    = "unavailable"
	codeInternal       = "internal"
)

const (
	// maxBody bounds what a request may send, in bytes.
	maxBody = 8 << 10
	// maxText bounds the text of a note, in characters.
	maxText = 500
)

// badSeat is the message about a seat's name.
const badSeat = "seat is 1 to 16 characters of a-z 0-9"

// contentSecurityPolicy lets the page load its own files and talk to its own origin, nothing else.
const contentSecurityPolicy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

type server struct {
	Options // fixed after construction
}

// guard puts the origin check and the common headers around an endpoint. Signing in and publishing
// change something on the strength of a cookie, so a page of another origin must not be able to
// ask for it; SameSite alone does not stop a neighbour on another port.
func (d *server) guard(h http.HandlerFunc) http.Handler { return d.guardUpTo(maxBody, h) }

// guardUpTo is guard for an endpoint that takes larger requests, up to limit bytes.
func (*server) guardUpTo(limit int64, h http.HandlerFunc) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, codeForeignOrigin, "this page may not act for the signed-in person")
	}))
	return protection.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		h(w, r)
	}))
}

// page serves the files of the page.
func (d *server) page() http.Handler {
	files := http.FileServerFS(d.Pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			d.notFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}

func (*server) notFound(w http.ResponseWriter, _ *http.Request) {
	refuse(w, http.StatusNotFound, codeNotFound, "there is no such page")
}

func (*server) people(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"organizations": Organizations(), "people": People()})
}

func (d *server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, d.Status())
}

// who says who sits at a seat and may act there, by the rules by which the gateway admits. A page
// cannot see why its handshake was refused: to a browser every reason is close code 1006.
func (d *server) who(w http.ResponseWriter, r *http.Request) {
	seat := r.URL.Query().Get("seat")
	if seat != "" && !validSeat(seat) {
		refuse(w, http.StatusBadRequest, codeBadRequest, badSeat)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	id, ok := d.identify(ctx, w, d.atSeat(r, seat))
	if !ok {
		return
	}
	answer(w, http.StatusOK, struct {
		User         string    `json:"user_id"`
		Organization orgctx.ID `json:"organization_id"`
	}{id.UserID, id.Organization})
}

// signInRequest asks for a session of one of the demo's people.
type signInRequest struct {
	User string `json:"user"`
	// Seat is empty for the browser's one real session cookie.
	Seat string `json:"seat"`
}

// signIn starts a session and sets its cookie. There is no password: it is a demo.
func (d *server) signIn(w http.ResponseWriter, r *http.Request) {
	req, err := readSignIn(r)
	if err != nil {
		refuseBody(w, err)
		return
	}
	if req.Seat != "" && !validSeat(req.Seat) {
		refuse(w, http.StatusBadRequest, codeBadRequest, badSeat)
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
	minted, err := d.Minter.Mint(ctx, session.Grant{UserID: person.User, Organization: org})
	if err != nil { // storing the session is all that can go wrong
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

// readSignIn reads a form or a JSON object.
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

// publishRequest asks to say something to a group. It has no field for an organisation, and one
// that is sent is refused: the organisation is the session's.
type publishRequest struct {
	Seat  string `json:"seat"`
	Group string `json:"group"`
	Text  string `json:"text"`
}

// note is the event that the demo publishes.
type note struct {
	Type         string    `json:"type"`
	Organization orgctx.ID `json:"organization_id"`
	ID           string    `json:"id"`
	From         string    `json:"from"`
	Text         string    `json:"text"`
	// SentAt is in milliseconds since 1970.
	SentAt int64 `json:"sent_at"`
}

// published tells the page what became of its words, so that it can follow them.
type published struct {
	ID           string    `json:"id"`
	Organization orgctx.ID `json:"organization_id"`
	Group        string    `json:"group"`
	From         string    `json:"from"`
	SentAt       int64     `json:"sent_at"`
}

// publish sends a note to a group of the signed-in person's organisation.
func (d *server) publish(w http.ResponseWriter, r *http.Request) {
	// A form is refused: browsers send forms across origins without asking first.
	if !isJSON(r) {
		refuse(w, http.StatusUnsupportedMediaType, codeBadRequest, "send a JSON object as application/json")
		return
	}
	var req publishRequest
	if err := readJSON(r, &req); err != nil {
		refuseBody(w, err)
		return
	}
	if req.Seat != "" && !validSeat(req.Seat) {
		refuse(w, http.StatusBadRequest, codeBadRequest, badSeat)
		return
	}
	if n := utf8.RuneCountInString(req.Text); n == 0 || n > maxText {
		refuse(w, http.StatusBadRequest, codeBadRequest, "text is 1 to 500 characters")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	id, ok := d.identify(ctx, w, d.atSeat(r, req.Seat))
	if !ok {
		return
	}
	if !mayPublish(id.UserID, req.Group) {
		refuse(w, http.StatusForbidden, codeUnknownGroup, "this demo publishes to all, room.1, room.2 and your own user group")
		return
	}
	g, err := event.NewGroup(id.Organization, req.Group)
	if err != nil {
		d.fail(w, "publish", err)
		return
	}
	n := note{
		Type: "note", Organization: id.Organization, ID: rand.Text(),
		From: id.UserID, Text: req.Text, SentAt: time.Now().UnixMilli(),
	}
	payload, err := json.Marshal(n)
	if err != nil {
		d.fail(w, "publish", err)
		return
	}
	if err := d.Publisher.Publish(ctx, g, payload); err != nil {
		d.unavailable(w, "publish", err)
		return
	}
	answer(w, http.StatusOK, published{
		ID: n.ID, Organization: n.Organization, Group: g.Name(), From: n.From, SentAt: n.SentAt,
	})
}

// mayPublish reports whether the demo lets the user publish to the group called name.
func mayPublish(user, name string) bool {
	switch name {
	case "all", "room.1", "room.2", "user." + user:
		return true
	default:
		return false
	}
}

// identify returns who sent r and may act for an organisation. Where nobody may, it has answered
// and ok is false.
func (d *server) identify(ctx context.Context, w http.ResponseWriter, r *http.Request) (id session.Identity, ok bool) {
	id, err := d.Sessions.Resolve(ctx, r)
	switch {
	case errors.Is(err, session.ErrUnavailable):
		d.unavailable(w, "resolve session", err)
		return session.Identity{}, false
	case err != nil:
		refuse(w, http.StatusUnauthorized, codeNotSignedIn, "nobody is signed in")
		return session.Identity{}, false
	case id.Organization.IsZero():
		refuse(w, http.StatusForbidden, codeNoOrganization, "the session has no active organisation")
		return session.Identity{}, false
	}
	if _, err := d.Membership.Admit(ctx, id.Organization, id.UserID); err != nil {
		if errors.Is(err, directory.ErrUnavailable) {
			d.unavailable(w, "ask the directory", err)
		} else {
			refuse(w, http.StatusForbidden, codeForbidden, "not an active member of the organisation")
		}
		return session.Identity{}, false
	}
	return id, true
}

// errTrailing is returned for a body with more than one JSON value.
var errTrailing = errors.New("demo: more than one JSON value")

func isJSON(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// readJSON reads the body as one JSON object with no other fields than v's.
func readJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// failure is the body of every refusal.
type failure struct {
	Error failureDetail `json:"error"`
}

type failureDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The status is out; if the client is gone now, nobody is left to tell.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, failure{Error: failureDetail{Code: code, Message: message}})
}

// refuseBody answers a body that could not be read.
func refuseBody(w http.ResponseWriter, err error) {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, codeTooLarge, "the request is too large")
		return
	}
	message := "the request is not of the expected form"
	if strings.Contains(err.Error(), "unknown field") {
		message = "the request has a field that is not its to set"
	}
	refuse(w, http.StatusBadRequest, codeBadRequest, message)
}

// unavailable answers that Redis could not be asked. The reason goes to the log, not to the page.
func (d *server) unavailable(w http.ResponseWriter, doing string, err error) {
	d.Logger.Warn("redis does not answer", zap.String("doing", doing), zap.Error(err))
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, codeUnavailable, "Redis does not answer right now; try again in a moment")
}

// fail answers an error that is our own.
func (d *server) fail(w http.ResponseWriter, doing string, err error) {
	d.Logger.Error("demo request failed", zap.String("doing", doing), zap.Error(err))
	refuse(w, http.StatusInternalServerError, codeInternal, "something went wrong on our side")
}
