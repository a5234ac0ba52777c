// Package django knows how Django signs what it gives away. It reads signed values and makes the hash that ties a session to
// a password. It signs nothing.
package django

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Salts keep a signed value of one kind from being used as another. Both are fixed by the stock classes of Django.
const (
	SaltCookies = "django.contrib.sessions.backends.signed_cookies" // of cookies with the engine signed_cookies
	SaltRows    = "django.contrib.sessions.SessionStore"            // of rows in the table django_session
)

// Bounds of signed values, in bytes.
const (
	MaxValue   = 16 << 10 // browsers keep cookies of 4,096
	MaxPayload = 64 << 10 // decompressed
)

// maxUnix is the last second of the year 9999, the last that Python knows.
const maxUnix = 253402300799

// ErrSignature is returned for a value that none of the keys signed, and ErrPayload for one that was signed but
// cannot be decoded or is too long. Errors never quote the value.
var (
	ErrSignature = errors.New("django: no valid signature")
	ErrPayload   = errors.New("django: signed, but not readable")
)

// Opener opens signed values. It is immutable.
type Opener struct{ keys [][]byte }

// NewOpener returns an Opener for values with a salt, signed with SECRET_KEY or one of SECRET_KEY_FALLBACKS.
// The salt is one of those above; trying several would undo what they are for.
func NewOpener(salt string, secretKeys [][]byte) (*Opener, error) {
	if len(secretKeys) == 0 {
		return nil, errors.New("django: no secret keys")
	}
	o := new(Opener)
	for i, key := range secretKeys {
		if len(key) == 0 {
			return nil, fmt.Errorf("django: secret key %d is empty", i+1)
		}
		o.keys = append(o.keys, derive(salt+"signer", key))
	}
	return o, nil
}

func derive(salt string, key []byte) []byte {
	sum := sha256.Sum256(append([]byte(salt), key...))
	return sum[:]
}

// Open verifies a value, and returns what was signed and when. It does not look at the age.
func (o *Opener) Open(value string) (payload []byte, signed time.Time, err error) {
	if len(value) > MaxValue {
		return nil, time.Time{}, ErrSignature
	}
	text, signature, ok := cutLast(value)
	if !ok || !o.signed(text, signature) {
		return nil, time.Time{}, ErrSignature
	}
	encoded, timestamp, ok := cutLast(text)
	if !ok {
		return nil, time.Time{}, ErrSignature // of a signer without a clock
	}
	seconds, ok := base62(timestamp)
	if !ok {
		return nil, time.Time{}, ErrPayload
	}
	payload, err = decode(encoded)
	return payload, time.Unix(seconds, 0), err
}

// cutLast splits a value at its last colon.
func cutLast(value string) (before, after string, ok bool) {
	at := strings.LastIndexByte(value, ':')
	if at < 0 {
		return "", "", false
	}
	return value[:at], value[at+1:], true
}

// signed reports whether one of the keys made a signature. It compares the texts and not the bytes that they stand for,
// because the last character has unused bits.
func (o *Opener) signed(text, signature string) bool {
	for _, key := range o.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		if hmac.Equal([]byte(base64.RawURLEncoding.EncodeToString(mac.Sum(nil))), []byte(signature)) {
			return true
		}
	}
	return false
}

// decode returns what was signed, decompressed if it begins with a dot.
func decode(text string) ([]byte, error) {
	text, compressed := strings.CutPrefix(text, ".")
	payload, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, ErrPayload
	}
	if !compressed {
		return payload, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, ErrPayload
	}
	payload, err = io.ReadAll(io.LimitReader(z, MaxPayload+1))
	if err != nil || len(payload) > MaxPayload {
		return nil, ErrPayload
	}
	return payload, nil
}

// base62 returns the Unix seconds of a timestamp.
func base62(text string) (seconds int64, ok bool) {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text, negative := strings.CutPrefix(text, "-")
	if text == "" || len(text) > 7 { // the year 9999 takes seven
		return 0, false
	}
	for i := range len(text) {
		digit := strings.IndexByte(digits, text[i])
		if digit < 0 {
			return 0, false
		}
		seconds = seconds*62 + int64(digit)
	}
	if negative {
		seconds = -seconds
	}
	return seconds, -maxUnix <= seconds && seconds <= maxUnix
}

// AuthHash returns the _auth_user_hash of a session: it ties the session to the password field of the user's row, so that
// a changed password ends it. Only Django has that row.
func AuthHash(secretKey []byte, passwordField string) string {
	mac := hmac.New(sha256.New, derive("django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash", secretKey))
	mac.Write([]byte(passwordField))
	return hex.EncodeToString(mac.Sum(nil))
}
