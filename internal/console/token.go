package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/orgctx"
)

// MaxLife is how far ahead a token may expire.
const MaxLife = time.Hour

// The headers that say for whom the token in Authorization is. The token authenticates them.
const (
	headerOrganization = "Orgcast-Organization"
	headerUser         = "Orgcast-User" // percent-encoded
)

// maxToken is the longest token: ten digits, a dot and 64 hexadecimal digits.
const maxToken = 10 + 1 + 2*sha256.Size

// Administrator is who opens the console of an organization.
type Administrator struct {
	Organization orgctx.ID
	UserID       string
}

var (
	errToken   = errors.New("console: no token, or not a valid one")
	errExpired = errors.New("console: token has expired")
	errTooLong = errors.New("console: token expires too far ahead")
)

// Token returns the token that opens the console of the administrator's organization until expires:
// decimal Unix seconds, a dot, and the hexadecimal HMAC-SHA256, with the key, of
// "orgcast.v1.console\nORGANIZATION\nUSER\nSECONDS". Web applications in any language can compute it.
func Token(key []byte, who Administrator, expires time.Time) string {
	return token(key, who, strconv.FormatInt(expires.Unix(), 10))
}

func token(key []byte, who Administrator, until string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("orgcast.v1.console\n" + who.Organization.String() + "\n" + who.UserID + "\n" + until))
	return until + "." + hex.EncodeToString(h.Sum(nil))
}

// authenticate returns who sent a request. Its work is bounded by the lengths that it accepts, and does
// not depend on whether there is such an organization. A token has one form: what differs from it in
// a letter's case or by a leading zero is another token.
func authenticate(r *http.Request, key []byte, now time.Time) (Administrator, error) {
	scheme, shown, _ := strings.Cut(one(r, "Authorization"), " ")
	until, _, _ := strings.Cut(shown, ".")
	expires, err := strconv.ParseInt(until, 10, 64)
	org, err1 := orgctx.ParseID(one(r, headerOrganization))
	user, err2 := userOf(one(r, headerUser))
	if err != nil || err1 != nil || err2 != nil || len(key) == 0 || len(shown) > maxToken ||
		!strings.EqualFold(scheme, "Bearer") || until != strconv.FormatInt(expires, 10) {
		return Administrator{}, errToken
	}
	who := Administrator{org, user}
	switch want := token(key, who, until); {
	case subtle.ConstantTimeCompare([]byte(shown), []byte(want)) != 1:
		return Administrator{}, errToken
	case now.Unix() >= expires:
		return Administrator{}, errExpired
	case expires > now.Add(MaxLife).Unix():
		return Administrator{}, errTooLong
	}
	return who, nil
}

// one returns the value of a header that a request has once, and else "".
func one(r *http.Request, name string) string {
	if values := r.Header.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// userOf decodes a header that names a user.
func userOf(text string) (string, error) {
	if len(text) > 3*orgctx.MaxUserIDLength { // every byte may be escaped
		return "", orgctx.ErrInvalidUserID
	}
	user, err := url.PathUnescape(text)
	if err != nil || !orgctx.ValidUserID(user) {
		return "", orgctx.ErrInvalidUserID
	}
	return user, nil
}
