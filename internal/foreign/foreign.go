// Package foreign recognizes the session cookies of other programs by their form or name, so that a cookie that no
// store can read is explained. It holds no secrets. Its answer is a hint and proves nothing, because the sender of a
// cookie chooses its form.
package foreign

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Kind is what a cookie looks like. The empty Kind is unknown.
type Kind string

// Kinds, as logs have them.
const (
	Django        Kind = "django"         // a key of a session in a database or cache
	DjangoSigned  Kind = "django_signed"  // the engine signed_cookies
	Rails         Kind = "rails"          // an encrypted session
	RailsSigned   Kind = "rails_signed"   // a signed session, as of older versions
	Express       Kind = "express"        // a signed key of express-session
	Laravel       Kind = "laravel"        // an encrypted key
	IronSession   Kind = "iron_session"   // a sealed session, as Next.js sites have them
	JWT           Kind = "jwt"            // a signed token
	JWTEncrypted  Kind = "jwt_encrypted"  // an encrypted token, as of Auth.js
	Gorilla       Kind = "gorilla"        // a signed session of gorilla/sessions
	OrgcastRecord Kind = "orgcast_record" // a key of a session that Orgcast's Redis store keeps
)

// maxValue is the longest value that is looked at, in bytes. Browsers keep 4,096.
const maxValue = 8 << 10

// Look returns what a cookie's value looks like, as it stands in a header or in a browser's developer tools. It
// reads at most 8 KiB, and does no more work than decoding them.
func Look(value string) Kind {
	if value == "" || len(value) > maxValue {
		return ""
	}
	value = strings.Trim(value, `"`)
	if plain, err := url.PathUnescape(value); err == nil {
		value = plain
	}
	for _, form := range forms {
		if form.fits(value) {
			return form.kind
		}
	}
	return ""
}

// forms are tried in this order; no value of one real program fits two of them.
var forms = []struct { //nolint:gochecknoglobals // a table
	kind Kind
	fits func(value string) bool
}{
	{IronSession, func(v string) bool { return strings.HasPrefix(v, "Fe26.2*") }},
	{Express, regexp.MustCompile(`^s:[^.]+.*\.[A-Za-z0-9+/]{43}$`).MatchString},
	{JWT, func(v string) bool { return token(v, 3, "alg") }},
	{JWTEncrypted, func(v string) bool { return token(v, 5, "enc") }},
	{DjangoSigned, regexp.MustCompile(`^\.?[\w-]+:[0-9A-Za-z]{1,11}:([\w-]{43}|[\w-]{27})$`).MatchString},
	{Rails, regexp.MustCompile(`^[\w+/=-]+--[\w+/-]{16}--[\w+/-]{22}(==)?$`).MatchString},
	{RailsSigned, regexp.MustCompile(`^[\w+/=-]+--([0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})$`).MatchString},
	{Laravel, laravel},
	{Gorilla, gorilla},
	{Django, func(v string) bool {
		// A key of hexadecimal digits alone comes from something else, such as PHP.
		return len(v) == 32 && strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789") == "" && strings.ContainsAny(v, "ghijklmnopqrstuvwxyz")
	}},
	{OrgcastRecord, regexp.MustCompile(`^[\w-]{42}[AEIMQUYcgkosw048]$`).MatchString}, // 32 bytes
}

// token reports whether a value has so many parts in base64url, the first of which is a JSON object with the field.
func token(value string, parts int, field string) bool {
	if strings.Count(value, ".") != parts-1 {
		return false
	}
	header, rest, _ := strings.Cut(value, ".")
	for part := range strings.SplitSeq(rest, ".") {
		if _, err := base64.RawURLEncoding.DecodeString(part); err != nil {
			return false
		}
	}
	text, err := base64.RawURLEncoding.DecodeString(header)
	return err == nil && texts(text, field)
}

func laravel(value string) bool {
	text, err := base64.StdEncoding.DecodeString(value)
	return err == nil && texts(text, "iv", "value", "mac")
}

// texts reports whether a text is a JSON object in which the fields are text.
func texts(text []byte, fields ...string) bool {
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil {
		return false
	}
	for _, field := range fields {
		if !strings.HasPrefix(string(object[field]), `"`) {
			return false
		}
	}
	return true
}

var signedAt = regexp.MustCompile(`^\d{9,12}\|[\w=-]+\|`)

// gorilla: the time, the values in base64 and 32 bytes of signature, in base64 again.
func gorilla(value string) bool {
	text, err := base64.URLEncoding.DecodeString(value)
	if err != nil {
		return false
	}
	head := signedAt.Find(text)
	return head != nil && len(text) == len(head)+32
}

// names of cookies that frameworks give their sessions unless told otherwise.
var names = map[string]Kind{ //nolint:gochecknoglobals // a table
	"sessionid":               Django,
	"connect.sid":             Express,
	"laravel_session":         Laravel,
	"next-auth.session-token": JWTEncrypted,
	"authjs.session-token":    JWTEncrypted,
}

// Named returns whose session cookie usually has the name.
func Named(name string) Kind {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__Host-"), "__Secure-")
	if strings.HasPrefix(name, "_") && strings.HasSuffix(name, "_session") {
		return Rails
	}
	return names[name]
}

// Carried returns whose session cookie a request carries, going by the names of its cookies.
func Carried(r *http.Request) Kind {
	for _, line := range r.Header.Values("Cookie") {
		for piece := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(piece, "=")
			if kind := Named(strings.TrimSpace(name)); kind != "" {
				return kind
			}
		}
	}
	return ""
}
