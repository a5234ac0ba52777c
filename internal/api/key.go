package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync/atomic"
)

// Key is the key of bearer tokens, which may be replaced while it is in use.
type Key struct {
	sum atomic.Pointer[[sha256.Size]byte] // nil if no key is set
}

// NewKey returns the key with the text.
func NewKey(text string) *Key {
	k := new(Key)
	k.Set(text)
	return k
}

// Set replaces the text. The previous one is good no more. With an empty text, none is good.
func (k *Key) Set(text string) {
	if text == "" {
		k.sum.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(text))
	k.sum.Store(&sum)
}

// isSet reports whether there is a key.
func (k *Key) isSet() bool { return k.sum.Load() != nil }

// shownBy reports whether a request shows the key as a bearer token.
func (k *Key) shownBy(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	ok := strings.EqualFold(scheme, "Bearer") // RFC 9110, section 11.1: regardless of case
	token = strings.TrimLeft(token, " ")
	got, want := sha256.Sum256([]byte(token)), k.sum.Load()
	return ok && want != nil && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
