package app

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisclient"
	"orgcast/internal/session"
)

// Django are the options of the stores that read the sessions of a Django site.
type Django struct {
	// SecretKeys are SECRET_KEY and SECRET_KEY_FALLBACKS, in the form that [ParseSecretKeys] reads.
	SecretKeys string
	// Backends are the AUTHENTICATION_BACKENDS whose users count.
	Backends []string
	// OrganizationKey is the key of the active organization in a session.
	OrganizationKey string
	// Cache is the Redis of the cache. Without a URL, it is the one of sessions.
	Cache redisclient.Options
	// CachePrefix and CacheVersion are KEY_PREFIX and VERSION of the cache, CacheFormat is json or
	// pickle, and CacheEngine cache or cached_db.
	CachePrefix              string
	CacheVersion             int
	CacheFormat, CacheEngine string
}

// splitKeys splits keys: one in each line, or comma-separated in a single line.
func splitKeys(text string) []string {
	separator := ","
	if text = strings.TrimSpace(text); strings.Contains(text, "\n") {
		separator = "\n"
	}
	return strings.Split(text, separator)
}

// ParseSecretKeys parses secret keys, which [splitKeys] splits.
func ParseSecretKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for i, part := range splitKeys(text) {
		key, err := keyBytes(strings.TrimSpace(part))
		switch {
		case err != nil:
			return nil, fmt.Errorf("key %d: hex- must be followed by hexadecimal digits", i+1)
		case len(key) < MinSecret:
			return nil, fmt.Errorf("key %d: must have at least %d bytes (write a key that contains a comma as hex-…, or one key in each line)", i+1, MinSecret)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// djangoOptions returns what both stores have in common.
func (o *Options) djangoOptions(cookie string) session.DjangoOptions {
	return session.DjangoOptions{
		Cookie: cookie, Backends: o.Django.Backends, Organization: o.Django.OrganizationKey, MaxAge: o.SessionMaxAge,
	}
}

func (o *Options) djangoSigned(cookie string, p storeParts) (session.Part, error) {
	keys, err := ParseSecretKeys(o.Django.SecretKeys)
	if err != nil {
		return nil, err
	}
	store, err := session.NewDjangoSignedStore(keys, o.djangoOptions(cookie))
	if err != nil {
		return nil, err
	}
	p.reloads.add(func(next *Options) (func(), error) {
		keys, err := ParseSecretKeys(next.Django.SecretKeys)
		if err != nil {
			return nil, fmt.Errorf("--django-secret-keys: %w", err)
		}
		return store.PrepareKeys(keys)
	})
	return store, nil
}

// djangoCache creates the store, with a client of its own if the cache has its own Redis.
func (o *Options) djangoCache(cookie string, p storeParts, s *Sessions) (session.Part, error) {
	client := p.client
	if o.ownDjangoCache() {
		connector, err := redisclient.NewConnector(o.Django.Cache)
		if err != nil {
			return nil, err
		}
		var own redis.UniversalClient
		if own, err = connector.Connect(0); err != nil {
			return nil, err
		}
		s.undo = append(s.undo, func() { _ = own.Close() }) // nothing was written
		Follow(own)
		p.reloads.addCertificates(func(next *Options) (func(), error) { return connector.PrepareReload(next.Django.Cache) })
		client = own
	}
	d := o.Django
	return session.NewDjangoCacheStore(client, session.DjangoCacheOptions{
		DjangoOptions: o.djangoOptions(cookie), Engine: session.DjangoEngine(d.CacheEngine), Format: session.DjangoFormat(d.CacheFormat),
		Prefix: d.CachePrefix, Version: d.CacheVersion,
	})
}

// ownDjangoCache reports whether the cache of Django has a Redis of its own.
func (o *Options) ownDjangoCache() bool {
	return o.HasStore(StoreDjangoCache) && o.Django.Cache.URL != ""
}

// checkDjango checks combinations of the options of Django's sessions.
func (o *Options) checkDjango() error {
	var errs []error
	if o.HasStore(StoreDjangoSigned) && o.Django.SecretKeys == "" {
		errs = append(errs, errors.New("--django-secret-keys: required with --session-store=django-signed: the site's SECRET_KEY, then its SECRET_KEY_FALLBACKS"))
	}
	return errors.Join(append(errs, o.Django.Cache.Check())...)
}

// djangoWarning says what a store of Django's sessions cannot see.
func djangoWarning(kind string) string {
	unseen := "a password that was changed on another device and a user who was deactivated are in Django's database, which the gateway cannot read"
	if kind == StoreDjangoSigned {
		unseen = "a logout only deletes the cookie in one browser, and " + unseen
	}
	return fmt.Sprintf("--session-store=%s: %s: such sessions stay until they expire, unless the site announces their end; --session-store=http has Django check them (docs/django.md)", kind, unseen)
}
