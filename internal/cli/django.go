package cli

import (
	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/session"
)

// declareDjango declares the settings of the stores that read the sessions of a Django site.
func (s *settings) declareDjango(set *config.Set) {
	d := &s.Django
	set.Secret(&d.SecretKeys, "django-secret-keys",
		"with --session-store=django-signed: the site's SECRET_KEY, then its SECRET_KEY_FALLBACKS, comma-separated or one in each line; each of at least 32 characters; hex-… for bytes in hexadecimal",
		func(text string) error { _, err := app.ParseSecretKeys(text); return err })
	set.List(&d.Backends, "django-backends", session.DefaultDjangoBackend, "with --session-store=django-…: AUTHENTICATION_BACKENDS of the site, comma-separated; sessions of other backends are refused", nil)
	set.String(&d.OrganizationKey, "django-organization-key", session.DefaultDjangoOrganization, "with --session-store=django-…: key of the active organization in the session", nil)
	d.Cache.Name = "django-cache-redis"
	declareURL(set, &d.Cache, "", "with --session-store=django-cache: Redis URL of the site's cache, with its database; default: the Redis of sessions")
	set.Secret(&d.Cache.Password, "django-cache-redis-password", "password for it, not percent-encoded", nil)
	set.Path(&d.Cache.CA, "django-cache-redis-tls-ca", "", "CA certificates (PEM) used to verify it; default: the system pool", nil)
	set.String(&d.CachePrefix, "django-cache-prefix", "", "KEY_PREFIX of that cache", nil)
	set.Int(&d.CacheVersion, "django-cache-version", 1, 1, "VERSION of that cache")
	set.Choice(&d.CacheEngine, "django-cache-engine", string(session.DjangoCache), []string{string(session.DjangoCache), string(session.DjangoCachedDB)},
		"last part of the site's SESSION_ENGINE; with cached_db, a session that is not in the cache is unavailable, because it may be in the database")
	set.Choice(&d.CacheFormat, "django-cache-format", string(session.DjangoJSON), []string{string(session.DjangoJSON), string(session.DjangoPickle)},
		"how that cache encodes values; pickle is Django's default, of which the gateway reads data and runs nothing")
}
