package demo

import (
	"net/http"
	"net/url"
	"strings"
)

// A browser has one cookie jar, and the gateway reads one cookie, so one window could show only one
// person. A seat is a second name for that cookie. "left" keeps its session in
// orgcast_session_left, and below /seat/left/ the gateway gets that cookie under the real name. The
// gateway sees an ordinary request and checks everything as usual.

// maxSeatLength keeps the cookie's name short.
const maxSeatLength = 16

// validSeat reports whether seat is 1 to 16 of a-z and 0-9, so that it fits into a cookie's name.
func validSeat(seat string) bool {
	if seat == "" || len(seat) > maxSeatLength {
		return false
	}
	for i := range len(seat) {
		c := seat[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// seatCookie returns the name of the seat's cookie. The empty seat has the real name.
func (d *server) seatCookie(seat string) string {
	if seat == "" {
		return d.CookieName
	}
	return d.CookieName + "_" + seat
}

// atSeat returns a copy of r with the seat's session and no other cookie. Without a session at the
// seat, it has no cookie at all, and never that of someone else in the same browser.
func (d *server) atSeat(r *http.Request, seat string) *http.Request {
	cookie, err := r.Cookie(d.seatCookie(seat))
	r = r.Clone(r.Context())
	r.Header.Del("Cookie")
	if err == nil {
		r.AddCookie(&http.Cookie{Name: d.CookieName, Value: cookie.Value}) //nolint:gosec // a request bears no attributes
	}
	return r
}

// serveSeat passes /seat/SEAT/ws/… to the gateway as /ws/… with the seat's session.
func (d *server) serveSeat(w http.ResponseWriter, r *http.Request) {
	seat := r.PathValue("seat")
	if !validSeat(seat) {
		d.notFound(w, r)
		return
	}
	seated := d.atSeat(r, seat)
	prefix := "/seat/" + seat
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok { // an escaped seat name, which no honest client sends
		d.notFound(w, r)
		return
	}
	seated.URL = new(url.URL)
	*seated.URL = *r.URL
	seated.URL.Path = path
	seated.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, prefix)
	d.Gateway.ServeHTTP(w, seated)
}
