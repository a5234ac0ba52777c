package demo

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 8 << 10

// contentSecurityPolicy lets the page load its own files and talk to its own origin, and nothing
// else.
const contentSecurityPolicy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

type server struct {
	Options // fixed after construction

	shows sync.Mutex // held while a crowd or an outage begins: one of them at a time
}

// guard adds the origin check and common headers to an endpoint. Signing in and publishing change
// something with only a cookie as proof, so pages of other origins must not be able to request it.
// SameSite alone does not stop a page on another port.
func (d *server) guard(h http.HandlerFunc) http.Handler { return d.guardUpTo(maxBody, h) }

// guardUpTo is guard for an endpoint that accepts larger requests, up to limit bytes.
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
		switch name := strings.TrimPrefix(path.Clean(r.URL.Path), "/"); {
		case name == "consumers": // a folder without an index page
			http.Redirect(w, r, "/consumers/connection.html", http.StatusFound)
		case name != "" && !isFile(d.Pages, name):
			w.WriteHeader(http.StatusNotFound)
			http.ServeFileFS(noStatus{w}, r, d.Pages, "404.html")
		default:
			files.ServeHTTP(w, r)
		}
	})
}

// isFile reports whether there is a file of that name.
func isFile(files fs.FS, name string) bool {
	info, err := fs.Stat(files, name)
	return err == nil && info.Mode().IsRegular()
}

// noStatus ignores the status of a page, because another one has been written already.
type noStatus struct{ http.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (noStatus) WriteHeader(int) {}

func (*server) notFound(w http.ResponseWriter, _ *http.Request) {
	refuse(w, http.StatusNotFound, codeNotFound, "there is no such page")
}

func (d *server) people(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"organizations": Organizations(), "people": People(), "outages": d.Outages != nil,
	})
}

func (d *server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, d.Status())
}

// who tells who sits at a seat and may act there, by the same rules as the gateway's admission. A
// page cannot see why its handshake was refused, because browsers show every reason as close code
// 1006.
func (d *server) who(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	id, ok := d.identifyByQuery(ctx, w, r)
	if !ok {
		return
	}
	answer(w, http.StatusOK, struct {
		User         string    `json:"user_id"`
		Organization orgctx.ID `json:"organization_id"`
	}{id.UserID, id.Organization})
}

// identifyByQuery is identify for requests that name the seat, if any, in their query.
func (d *server) identifyByQuery(ctx context.Context, w http.ResponseWriter, r *http.Request) (id session.Identity, ok bool) {
	seat := r.URL.Query().Get("seat")
	if !checkSeat(w, seat) {
		return session.Identity{}, false
	}
	return d.identify(ctx, w, d.atSeat(r, seat))
}

// identify returns who sent r and may act for an organization. If no one may, it has answered and
// ok is false.
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
		refuse(w, http.StatusForbidden, codeNoOrganization, "the session has no active organization")
		return session.Identity{}, false
	}
	// The gateway does not tell clients which of these it is. The demo does, so that its page can
	// offer to undo it.
	switch _, err := d.Membership.Admit(ctx, id.Organization, id.UserID); {
	case err == nil:
		return id, true
	case errors.Is(err, directory.ErrUnavailable):
		d.unavailable(w, "ask the directory", err)
	case errors.Is(err, directory.ErrOrganizationSuspended):
		refuse(w, http.StatusForbidden, codeSuspended, nameOf(id.Organization)+" is suspended")
	default:
		refuse(w, http.StatusForbidden, codeNotAMember, "not an active member of "+nameOf(id.Organization))
	}
	return session.Identity{}, false
}

// nameOf returns the display name of an organization.
func nameOf(org orgctx.ID) string {
	for _, o := range Organizations() {
		if o.ID == org.String() {
			return o.Name
		}
	}
	return org.String()
}
