package session

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/pickle"
)

// Names in a session of Django.
const (
	djangoUser    = "_auth_user_id"
	djangoBackend = "_auth_user_backend"
	djangoHash    = "_auth_user_hash"
	djangoExpiry  = "_session_expiry"
)

// What applies where [DjangoOptions] leave a field empty.
const (
	DefaultDjangoBackend = "django.contrib.auth.backends.ModelBackend"
	// DefaultDjangoOrganization is the name that orgcast.django gives the active organization.
	DefaultDjangoOrganization = fieldOrganization
)

// ErrUncached is returned if a session is not in the cache of a Django site whose engine is cached_db. It may still be in
// the database, which the gateway cannot read. It is an [ErrUnavailable], although the cache answered.
var ErrUncached = fmt.Errorf("%w: the session is not in the cache, but may be in Django's database", ErrUnavailable)

// DjangoOptions are what the sessions of a Django site have in common, wherever they are stored.
type DjangoOptions struct {
	// Cookie is SESSION_COOKIE_NAME. Of several cookies with this name the last counts, as in Django.
	Cookie string
	// Backends are the AUTHENTICATION_BACKENDS whose users count; default [DefaultDjangoBackend].
	Backends []string
	// Organization is the key under which the site stores the active organization; default
	// [DefaultDjangoOrganization].
	Organization string
	// MaxAge is SESSION_COOKIE_AGE; default [DefaultMaxAge], which is also Django's.
	MaxAge time.Duration
	// Timeout bounds each use of a cache; default [DefaultTimeout].
	Timeout time.Duration
	// Now tells the time; default [time.Now].
	Now func() time.Time
}

func (o DjangoOptions) withDefaults() DjangoOptions {
	if len(o.Backends) == 0 {
		o.Backends = []string{DefaultDjangoBackend}
	}
	o.Organization = cmp.Or(o.Organization, DefaultDjangoOrganization)
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (o DjangoOptions) validate() error {
	switch {
	case o.Cookie == "":
		return errors.New("session: Cookie must be set")
	case o.MaxAge < time.Second:
		return errors.New("session: MaxAge must be at least a second")
	case o.Timeout < 0:
		return errors.New("session: Timeout must not be negative")
	}
	return nil
}

// person returns the user and the active organization of a session whose fields get looks up, as [document.get] does.
//
// Django also compares the hash with the user's password, and asks whether the user is active. That needs the user's
// row in the database, so here the hash only has to be present.
func (o DjangoOptions) person(get func(name string) (any, bool)) (user string, org orgctx.ID, err error) {
	for _, name := range []string{djangoUser, djangoBackend, djangoHash} {
		if v, _ := get(name); v == nil || v == "" {
			return "", orgctx.ID{}, ErrNone // nobody is logged in
		}
	}
	v, _ := get(djangoBackend)
	if backend, isText := v.(string); !isText || !slices.Contains(o.Backends, backend) {
		return "", orgctx.ID{}, fmt.Errorf("%w: its authentication backend is not in --django-backends", ErrNone)
	}
	v, _ = get(djangoUser)
	if user, err = textOrInteger(djangoText(v)); err != nil || !orgctx.ValidUserID(user) {
		return "", orgctx.ID{}, fmt.Errorf("%s: %w", djangoUser, ErrInvalid)
	}
	v, _ = get(o.Organization)
	v = djangoText(v)
	if _, isObject := v.(*pickle.Object); isObject {
		return "", orgctx.ID{}, fmt.Errorf("%s: %w: it is a Python object: store it as text", o.Organization, ErrInvalid)
	}
	// What is neither text nor an integer names no organization: Python takes true for 1 and 7.0 for 7.
	text, _ := textOrInteger(v)
	if text == "" {
		return user, orgctx.ID{}, nil
	}
	if org, err = orgctx.ParseID(text); err != nil {
		return "", orgctx.ID{}, fmt.Errorf("%s: %w", o.Organization, ErrInvalid)
	}
	return user, org, nil
}

// djangoText returns the text of a UUID, and all else as it is.
func djangoText(v any) any {
	if object, ok := v.(*pickle.Object); ok {
		if text, ok := object.Text(); ok {
			return text
		}
	}
	return v
}
