package session

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/sessions"

	"orgcast/internal/orgctx"
)

// What applies where [Options] leave a field empty.
const (
	DefaultName   = "orgcast_session"
	DefaultMaxAge = 14 * 24 * time.Hour
	// DefaultTimeout is far above what a healthy Redis takes and well below what a browser waits
	// for a handshake.
	DefaultTimeout = 2 * time.Second
)

// Options say how the session cookie looks and how long a session lasts. The zero Options are the
// safe defaults. Cookies are always HttpOnly: no page needs to read one.
type Options struct {
	// Name is the cookie's name; default [DefaultName].
	Name string
	// Path is the cookie's path; default "/".
	Path string
	// Domain widens the cookie to subdomains, all of which can then set and read it. Default:
	// this host alone.
	Domain string
	// MaxAge is the longest life of a session, in whole seconds; default [DefaultMaxAge].
	MaxAge time.Duration
	// SameSite is the cookie's attribute; default Lax. None lets foreign pages send the cookie, so
	// that the origin check alone stands between them and the session.
	SameSite http.SameSite
	// Insecure leaves out the Secure attribute, for development over plain HTTP. Anyone on the
	// way can then read the cookie.
	Insecure bool
	// Timeout bounds each use of a store; default [DefaultTimeout].
	Timeout time.Duration
	// Now tells the time; default [time.Now].
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.Name = cmp.Or(o.Name, DefaultName)
	o.Path = cmp.Or(o.Path, "/")
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	if o.SameSite == http.SameSiteDefaultMode {
		o.SameSite = 0
	}
	o.SameSite = cmp.Or(o.SameSite, http.SameSiteLaxMode)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (o Options) validate() error {
	host := strings.HasPrefix(o.Name, "__Host-")
	switch {
	case o.MaxAge < time.Second || o.MaxAge%time.Second != 0:
		return errors.New("session: MaxAge must be a positive number of whole seconds")
	case o.Timeout < 0:
		return errors.New("session: Timeout must not be negative")
	case host && (o.Insecure || o.Path != "/" || o.Domain != ""):
		return errors.New("session: browsers refuse a __Host- cookie with a domain, another path or without Secure")
	case o.Insecure && strings.HasPrefix(o.Name, "__Secure-"):
		return errors.New("session: browsers refuse a __Secure- cookie without Secure")
	case o.Insecure && o.SameSite == http.SameSiteNoneMode:
		return errors.New("session: browsers refuse SameSite=None without Secure")
	}
	if err := o.cookie("", 0).Valid(); err != nil {
		return fmt.Errorf("session: cookie options: %w", err)
	}
	return nil
}

// cookie returns the session cookie with the value, to be kept for life. A life of zero gives the
// cookie that removes it from the browser.
func (o Options) cookie(value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{ //nolint:gosec // Secure is the default, HttpOnly fixed, SameSite Lax unless chosen
		Name: o.Name, Value: value, Path: o.Path, Domain: o.Domain,
		MaxAge: int(life / time.Second), Expires: o.Now().Add(life),
		Secure: !o.Insecure, HttpOnly: true, SameSite: o.SameSite,
	}
	if life == 0 {
		c.MaxAge, c.Expires = -1, time.Unix(1, 0)
	}
	return c
}

// gorilla returns the same attributes in gorilla's form.
func (o Options) gorilla() *sessions.Options {
	return &sessions.Options{
		Path: o.Path, Domain: o.Domain, MaxAge: int(o.MaxAge / time.Second),
		Secure: !o.Insecure, HttpOnly: true, SameSite: o.SameSite,
	}
}

// ClearCookie returns the cookie that takes the session cookie out of the browser.
func (o Options) ClearCookie() (*http.Cookie, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return o.cookie("", 0), nil
}

// Grant is what a newly minted session says.
type Grant struct {
	// UserID satisfies [orgctx.ValidUserID].
	UserID string
	// Organization is the active organization, zero for none.
	Organization orgctx.ID
	// Lifetime is the life of the session in whole seconds, at most [Options].MaxAge, which is
	// also what zero means.
	Lifetime time.Duration
}

// check returns the grant's life and the moment at which it ends.
func (o Options) check(g Grant) (life time.Duration, end time.Time, err error) {
	if !orgctx.ValidUserID(g.UserID) {
		return 0, time.Time{}, fmt.Errorf("session: %w", orgctx.ErrInvalidUserID)
	}
	if g.Lifetime == 0 {
		g.Lifetime = o.MaxAge
	}
	if g.Lifetime < time.Second || g.Lifetime%time.Second != 0 || g.Lifetime > o.MaxAge {
		return 0, time.Time{}, fmt.Errorf("session: lifetime %v must be in whole seconds from 1s to %v", g.Lifetime, o.MaxAge)
	}
	return g.Lifetime, o.Now().Add(g.Lifetime), nil
}
