package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/outgoing"
	"orgcast/internal/session"
)

// Kinds of session store.
const (
	StoreCookie = "cookie"
	StoreRedis  = "redis"
	StoreHTTP   = "http"
	// Sessions of a Django site.
	StoreDjangoCache  = "django-cache"
	StoreDjangoSigned = "django-signed"
	// StoreJWT has no cookie, and nothing is stored.
	StoreJWT = "jwt"
)

// StoreKinds returns the kinds that --session-store accepts.
func StoreKinds() []string {
	return []string{StoreCookie, StoreRedis, StoreHTTP, StoreDjangoCache, StoreDjangoSigned, StoreJWT}
}

// HasStore reports whether one of the session stores is of a kind.
func (o *Options) HasStore(kind string) bool { return slices.Contains(o.SessionStores, kind) }

// Minter creates new sessions.
type Minter interface {
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
}

var (
	_ Minter = (*session.CookieStore)(nil)
	_ Minter = (*session.RedisStore)(nil)
)

// Sessions are the session stores of a process.
type Sessions struct {
	session.Several

	undo []func() // in reverse
}

// Store returns the first store of a type, or false.
func Store[T session.Store](s *Sessions) (store T, ok bool) {
	for _, part := range s.Several {
		if store, ok = part.(T); ok {
			return store, true
		}
	}
	return store, false
}

// errNoMinter is returned if no store can create a session.
var errNoMinter = errors.New("--session-store: the web application makes the sessions; only cookie and redis can mint one")

// Mint creates a session in the first store that can.
func (s *Sessions) Mint(ctx context.Context, g session.Grant) (*http.Cookie, error) {
	for _, part := range s.Several {
		if m, ok := part.(Minter); ok {
			return m.Mint(ctx, g)
		}
	}
	return nil, errNoMinter
}

// Close waits for questions to the web application that are in progress, and closes the clients of
// the stores.
func (s *Sessions) Close() {
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
}

// storeParts are the parts that stores need.
type storeParts struct {
	client  redis.UniversalClient
	keys    keyspace.Keyspace
	calls   *outgoing.Client
	asked   func(cookies int)
	log     *zap.Logger
	reloads *reloadSteps
}

// NewSessions creates the stores that the options name, for a process that does not serve
// connections. Close them after use.
func NewSessions(o *Options, client redis.UniversalClient, keys keyspace.Keyspace) (*Sessions, error) {
	return o.sessions(storeParts{client: client, keys: keys, calls: outgoing.New(outgoing.Options{}), log: zap.NewNop(), reloads: new(reloadSteps)})
}

func (o *Options) sessions(p storeParts) (*Sessions, error) {
	s := new(Sessions)
	for i, kind := range o.SessionStores {
		part, err := o.store(kind, o.cookieName(i), p, s)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.Several = append(s.Several, part)
	}
	return s, nil
}

// cookieName returns the name of the cookie of the store at that index, "" if it has none.
func (o *Options) cookieName(place int) string {
	if o.SessionStores[place] == StoreJWT {
		return ""
	}
	if slices.Contains(o.SessionStores[:place], StoreJWT) {
		place--
	}
	if place < len(o.SessionCookies) {
		return o.SessionCookies[place]
	}
	return session.DefaultName
}

// cookies returns the names of the cookies of all stores.
func (o *Options) cookies() (names []string) {
	for i := range o.SessionStores {
		if name := o.cookieName(i); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// store creates a store. What it acquires is undone when s is closed.
func (o *Options) store(kind, cookie string, p storeParts, s *Sessions) (session.Part, error) {
	so := session.Options{Name: cookie, MaxAge: o.SessionMaxAge, Insecure: o.SessionInsecure}
	switch kind {
	case StoreRedis:
		return session.NewRedisStore(p.client, p.keys, so)
	case StoreHTTP:
		return o.webStore(cookie, p, s)
	case StoreDjangoCache:
		return o.djangoCache(cookie, p, s)
	case StoreDjangoSigned:
		return o.djangoSigned(cookie, p)
	case StoreJWT:
		return o.jwtStore(p, s)
	}
	return o.cookieStore(so, p)
}

func (o *Options) cookieStore(so session.Options, p storeParts) (session.Part, error) {
	pairs, err := ParseKeys(o.SessionKeys)
	if err != nil {
		return nil, err
	}
	store, err := session.NewCookieStore(pairs, so)
	if err != nil {
		return nil, err
	}
	p.reloads.add(func(next *Options) (func(), error) {
		pairs, err := ParseKeys(next.SessionKeys)
		if err != nil {
			return nil, fmt.Errorf("--session-keys: %w", err)
		}
		return store.PrepareKeys(pairs)
	})
	return store, nil
}

// CheckSessions checks combinations of the options of sessions.
func (o *Options) CheckSessions() error {
	var errs []error
	if o.HasStore(StoreCookie) && o.SessionKeys == "" {
		errs = append(errs, errors.New("--session-keys: required with --session-store=cookie: the keys of the web application"))
	}
	names := o.cookies()
	if len(names) > 0 && len(o.SessionCookies) > 0 && len(o.SessionCookies) != len(names) {
		errs = append(errs, fmt.Errorf("--session-cookie: must name a cookie for each store of --session-store except jwt, in the same order: %d stores, %d cookies", len(names), len(o.SessionCookies)))
	}
	if n := len(names); len(slices.Compact(slices.Sorted(slices.Values(names)))) < n {
		errs = append(errs, errors.New("--session-cookie: two stores of --session-store have the same cookie: the name says which store decides"))
	}
	if o.HasStore(StoreHTTP) {
		if o.SessionURL == "" {
			errs = append(errs, errors.New("--session-url: required with --session-store=http: where the web application says which user a cookie belongs to"))
		}
		if o.SessionURLKey == "" {
			errs = append(errs, errors.New("--session-url-key: required with --session-store=http: the key that the web application expects"))
		}
	}
	return errors.Join(append(errs, o.checkDjango(), o.checkJWT())...)
}

// CheckStores checks a value of --session-store.
func CheckStores(list []string) error {
	for i, kind := range list {
		if !slices.Contains(StoreKinds(), kind) {
			return fmt.Errorf("must be one or more of %s, comma-separated", strings.Join(StoreKinds(), ", "))
		}
		if slices.Contains(list[:i], kind) {
			return fmt.Errorf("must not name %s twice", kind)
		}
	}
	if len(list) == 0 {
		return errors.New("must name at least one store")
	}
	return nil
}

// MinSecret is the shortest key, in bytes: 32 bytes match the strength of SHA-256.
const MinSecret = 32

// ParseKeys parses the key pairs of signed cookies.
func ParseKeys(text string) ([]session.KeyPair, error) {
	var pairs []session.KeyPair
	for i, part := range strings.Split(text, ",") {
		hashText, blockText, _ := strings.Cut(strings.TrimSpace(part), ":")
		hash, err1 := keyBytes(hashText)
		block, err2 := keyBytes(blockText)
		switch {
		case err1 != nil || err2 != nil:
			return nil, fmt.Errorf("key %d: hex- must be followed by hexadecimal digits", i+1)
		case len(hash) < MinSecret:
			return nil, fmt.Errorf("key %d: the hash key must have at least %d bytes", i+1, MinSecret)
		case len(block) != 0 && len(block) != 16 && len(block) != 24 && len(block) != 32:
			return nil, fmt.Errorf("key %d: the block key must have 16, 24 or 32 bytes", i+1)
		}
		pairs = append(pairs, session.KeyPair{Hash: hash, Block: block})
	}
	return pairs, nil
}

func keyBytes(text string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(text, "hex-"); ok {
		return hex.DecodeString(digits)
	}
	return []byte(text), nil
}

// Values of Options.Directory.
const (
	DirectoryRedis   = "redis"
	DirectorySession = "session"
)

// DirectoryKind returns the effective --directory. By default, a web application that is asked
// about sessions also knows memberships, and so does an identity provider that signs them.
func (o *Options) DirectoryKind() string {
	switch {
	case o.Directory != "":
		return o.Directory
	case o.HasStore(StoreHTTP), o.HasStore(StoreJWT):
		return DirectorySession
	}
	return DirectoryRedis
}

// newDirectory creates the directory that the options name.
func newDirectory(o *Options, clients *Clients, keys keyspace.Keyspace) (directory.Directory, error) {
	if o.DirectoryKind() == DirectoryRedis {
		return directory.NewRedis(clients.State, keys)
	}
	return directory.TrustSession{}, nil
}

// NewRevoker creates the Revoker of a process.
func NewRevoker(o *Options, clients *Clients, keys keyspace.Keyspace) (*lease.Revoker, error) {
	revocations, err := session.NewRevocations(clients.State, keys)
	if err != nil {
		return nil, err
	}
	r := &lease.Revoker{Announcer: lease.NewAnnouncer(clients.Events, keys), Revocations: revocations, SessionLife: o.SessionMaxAge}
	if o.DirectoryKind() == DirectoryRedis {
		if r.Members, err = directory.NewRedis(clients.State, keys); err != nil {
			return nil, err
		}
	}
	return r, nil
}
