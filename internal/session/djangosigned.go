package session

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"orgcast/internal/django"
)

// DjangoSignedStore reads the sessions of Django's engine signed_cookies. The cookie has the whole session, in JSON,
// signed with SECRET_KEY. Pickled ones are refused.
//
// Logging out only deletes the cookie in one browser, and no cookie shows that a password has changed or that a user was
// deactivated. Only a revocation ends such a session before it expires ([Revocations]).
//
// It is safe for concurrent use.
type DjangoSignedStore struct {
	opts   DjangoOptions
	opener atomic.Pointer[django.Opener] // with the keys in effect
}

var _ Part = (*DjangoSignedStore)(nil)

// NewDjangoSignedStore returns a store with SECRET_KEY and then SECRET_KEY_FALLBACKS, at least one key.
func NewDjangoSignedStore(secretKeys [][]byte, o DjangoOptions) (*DjangoSignedStore, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &DjangoSignedStore{opts: o}
	apply, err := s.PrepareKeys(secretKeys)
	if err != nil {
		return nil, err
	}
	apply()
	return s, nil
}

// PrepareKeys checks other keys for the store and returns what puts them in the place of the present ones.
func (s *DjangoSignedStore) PrepareKeys(secretKeys [][]byte) (apply func(), err error) {
	opener, err := django.NewOpener(django.SaltCookies, secretKeys)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return func() { s.opener.Store(opener) }, nil
}

// Resolve implements [Resolver]. It neither blocks nor looks at ctx.
func (s *DjangoSignedStore) Resolve(_ context.Context, r *http.Request) (Identity, error) {
	value, ok := CookieValue(r, s.opts.Cookie)
	if !ok || value == "" {
		return Identity{}, ErrNone
	}
	payload, signed, err := s.opener.Load().Open(value)
	if err != nil {
		return Identity{}, unreadable(value)
	}
	id := Identity{SessionID: DeriveID(value), Expires: signed.Add(s.opts.MaxAge)}
	now := s.opts.Now()
	if now.After(id.Expires) { // at its very end a cookie is still good, as in Django
		return Identity{}, ErrExpired
	}
	d, err := parseDocument(string(payload))
	if err != nil {
		return Identity{}, err
	}
	if id.UserID, id.Organization, err = s.opts.person(d.get); err != nil {
		return Identity{}, err
	}
	// Django leaves this end to the browser, which would have deleted the cookie.
	if end, ok := djangoEnd(d, signed); ok && end.Before(id.Expires) {
		if id.Expires = end; !now.Before(end) {
			return Identity{}, ErrExpired
		}
	}
	return id, nil
}

// djangoEnd returns the end that a session names for itself, if any.
func djangoEnd(d document, signed time.Time) (time.Time, bool) {
	v, _ := d.get(djangoExpiry)
	if text, isText := v.(string); isText {
		end, err := time.Parse(time.RFC3339, text) // Python's isoformat fits
		return end, err == nil                     // without a zone, the time is local to a server
	}
	digits, ok := integer(v)
	if !ok || digits == "0" || len(digits) > 9 { // 0: until the browser is closed
		return time.Time{}, false
	}
	life, err := time.ParseDuration(digits + "s")
	return signed.Add(life), err == nil
}

// Bears implements [Bearer].
func (s *DjangoSignedStore) Bears(r *http.Request) bool {
	value, _ := CookieValue(r, s.opts.Cookie)
	return value != ""
}

// Ticket implements [Store]. The cookie has said everything.
func (*DjangoSignedStore) Ticket(*http.Request) string { return "" }

// Recheck implements [Store], as [CookieStore.Recheck] does.
func (s *DjangoSignedStore) Recheck(_ context.Context, held []Held) []Standing {
	return recheckCopies(held, s.opts.Now())
}

// recheckCopies says of sessions that are only in their browsers whether their time has run out: with [ErrStale],
// since the application may have given the browser a newer copy.
func recheckCopies(held []Held, now time.Time) []Standing {
	out := make([]Standing, len(held))
	for i, h := range held {
		out[i].Expires = h.Identity.Expires
		if now.After(h.Identity.Expires) {
			out[i] = Standing{Err: ErrStale}
		}
	}
	return out
}
