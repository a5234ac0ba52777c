package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"orgcast/internal/orgctx"
)

// minHashKey is the shortest key that signs cookies, in bytes: as long as what HMAC-SHA256 yields.
const minHashKey = 32

// KeyPair signs and, if Block is set, encrypts cookies.
type KeyPair struct {
	// Hash signs. It has at least 32 bytes.
	Hash []byte
	// Block encrypts with AES if it is not empty. It has 16, 24 or 32 bytes.
	Block []byte
}

// CookieStore keeps the whole session in the cookie, in the format of gorilla's CookieStore. The
// values are user_id and active_organization_id (text or integer), expires_at (Unix seconds,
// optional) and session_id (text, optional).
//
// Nothing is kept on the server, so a session cannot be ended before it expires, except by a
// revocation of its SessionID ([Revocations]).
//
// It is safe for concurrent use.
type CookieStore struct {
	store atomic.Pointer[sessions.CookieStore] // of the keys in effect
	opts  Options
}

var _ Store = (*CookieStore)(nil)

// NewCookieStore returns a store with the key pairs, at least one. The first pair signs new
// cookies; the others are older ones whose cookies are still good.
func NewCookieStore(keys []KeyPair, o Options) (*CookieStore, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &CookieStore{opts: o}
	apply, err := s.PrepareKeys(keys)
	if err != nil {
		return nil, err
	}
	apply()
	return s, nil
}

// PrepareKeys checks other key pairs for the store, as [NewCookieStore] does, and returns what puts
// them in the place of the present ones. What was held before, as [Store.Recheck] has it, stays good.
func (s *CookieStore) PrepareKeys(keys []KeyPair) (apply func(), err error) {
	if len(keys) == 0 {
		return nil, errors.New("session: no keys")
	}
	pairs := make([][]byte, 0, 2*len(keys))
	for i, k := range keys {
		if len(k.Hash) < minHashKey {
			return nil, fmt.Errorf("session: hash key %d must have at least %d bytes", i+1, minHashKey)
		}
		switch len(k.Block) {
		case 0:
			k.Block = nil // an empty key that is not nil would be one of the wrong length
		case 16, 24, 32:
		default:
			return nil, fmt.Errorf("session: block key %d must have 16, 24 or 32 bytes", i+1)
		}
		pairs = append(pairs, k.Hash, k.Block)
	}
	store := sessions.NewCookieStore(pairs...)
	store.Options = s.opts.gorilla()
	for _, c := range store.Codecs {
		if codec, ok := c.(*securecookie.SecureCookie); ok {
			codec.MaxAge(0) // it has its own clock; Resolve checks the age by ours
			codec.SetSerializer(gobValues{})
		}
	}
	return func() { s.store.Store(store) }, nil
}

// Resolve implements [Resolver]. It neither blocks nor looks at ctx.
func (s *CookieStore) Resolve(_ context.Context, r *http.Request) (Identity, error) {
	value, ok := firstCookie(r, s.opts.Name)
	if !ok || value == "" {
		return Identity{}, ErrNone
	}
	values, err := s.open(value)
	if err != nil {
		return Identity{}, unreadable(value)
	}
	get := func(name string) (any, bool) {
		v, ok := values[name]
		return v, ok
	}
	user, org, err := person(get)
	if err != nil {
		return Identity{}, err
	}
	signed, derived, err := seal(value)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{UserID: user, Organization: org, SessionID: derived, Expires: signed.Add(s.opts.MaxAge)}

	now := s.opts.Now()
	if now.After(id.Expires) { // at its very end a cookie is still good, as in gorilla
		return Identity{}, ErrExpired
	}
	if v, ok := get(fieldExpires); ok {
		end, err := moment(v)
		if err != nil {
			return Identity{}, err
		}
		if !now.Before(end) {
			return Identity{}, ErrExpired
		}
		if end.Before(id.Expires) {
			id.Expires = end
		}
	}
	if v, ok := get(fieldID); ok {
		text, isText := v.(string)
		if !isText || !orgctx.ValidID(text) {
			return Identity{}, fmt.Errorf("%s: %w", fieldID, ErrInvalid)
		}
		id.SessionID = text
	}
	return id, nil
}

// Bears implements [Bearer].
func (s *CookieStore) Bears(r *http.Request) bool {
	value, _ := firstCookie(r, s.opts.Name)
	return value != ""
}

// Ticket implements [Store]. The cookie has said everything.
func (*CookieStore) Ticket(*http.Request) string { return "" }

// Recheck implements [Store]. A cookie never changes its mind: only its time runs out, with [ErrStale],
// since the application may have given the browser a newer one.
func (s *CookieStore) Recheck(_ context.Context, held []Held) []Standing {
	return recheckCopies(held, s.opts.Now())
}

// open has gorilla verify and decode a cookie.
func (s *CookieStore) open(value string) (map[any]any, error) {
	for i := range len(value) {
		switch c := value[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '=':
		default:
			return nil, ErrInvalid // the decoder would skip line ends, and a cookie has one spelling
		}
	}
	values := make(map[any]any)
	if err := securecookie.DecodeMulti(s.opts.Name, value, &values, s.store.Load().Codecs...); err != nil {
		return nil, ErrInvalid // without the cause, which may quote the content
	}
	return values, nil
}

// usualCookie is the length of a cookie that is decoded on the stack.
const usualCookie = 512

// seal returns when a verified cookie was signed, and the SessionID that its signature makes. The text
// of a cookie is malleable, since the last character has unused bits; the bytes of the signature are
// not.
func seal(value string) (signed time.Time, id string, err error) {
	var room [usualCookie]byte
	text, err := base64.URLEncoding.AppendDecode(room[:0], []byte(value))
	if err != nil {
		return time.Time{}, "", ErrInvalid
	}
	at, rest, first := bytes.Cut(text, []byte("|"))
	_, mac, second := bytes.Cut(rest, []byte("|"))
	if !first || !second {
		return time.Time{}, "", ErrInvalid
	}
	seconds, err := strconv.ParseInt(string(at), 10, 64)
	if err != nil || seconds < 0 || seconds > maxUnix {
		return time.Time{}, "", ErrInvalid
	}
	return time.Unix(seconds, 0), DeriveID(string(mac)), nil
}

// Mint returns the cookie of a new session. It does not look at ctx. The signature bears the time
// of the machine, whatever [Options].Now says.
func (s *CookieStore) Mint(_ context.Context, g Grant) (*http.Cookie, error) {
	life, end, err := s.opts.check(g)
	if err != nil {
		return nil, err
	}
	values := map[any]any{fieldUser: g.UserID, fieldExpires: end.Unix(), fieldID: rand.Text()}
	if !g.Organization.IsZero() {
		values[fieldOrganization] = g.Organization.String()
	}
	text, err := securecookie.EncodeMulti(s.opts.Name, values, s.store.Load().Codecs...)
	if err != nil {
		return nil, fmt.Errorf("sign session: %w", err)
	}
	return s.opts.cookie(text, life), nil
}
