package session

import (
	"net/http"
	"strings"
)

// firstCookie returns the value of the request's cookie called name. Of equal names the first counts, as
// in [http.Request.Cookie] and so in gorilla: each store takes the cookie that its own application
// takes, so that the application and the gateway never see two different users in one request.
func firstCookie(r *http.Request, name string) (value string, ok bool) {
	c, err := r.Cookie(name)
	if err != nil {
		return "", false
	}
	return c.Value, true
}

// rawCookie returns the value of the request's cookie called name as it stands in the header, or "". Of equal
// names the first or the last counts.
func rawCookie(r *http.Request, name string, pick Pick) (value string) {
	for _, line := range r.Header.Values("Cookie") {
		for piece := range strings.SplitSeq(line, ";") {
			key, text, hasEquals := strings.Cut(piece, "=")
			if !hasEquals || trimSpace(key) != name {
				continue
			}
			if value = trimSpace(text); pick == PickFirst {
				return value
			}
		}
	}
	return value
}

// CookieValue returns the value of the request's cookie called name, which is matched exactly, as Django
// takes it: of equal names the last counts, and values lose quotes and backslash escapes. The header's
// bytes are taken as Latin-1, as Channels does.
func CookieValue(r *http.Request, name string) (value string, ok bool) {
	for _, line := range r.Header.Values("Cookie") {
		for piece := range strings.SplitSeq(line, ";") {
			key, text, hasEquals := strings.Cut(piece, "=")
			if hasEquals && trimSpace(key) == name {
				value, ok = trimSpace(text), true
			}
		}
	}
	return unquote(value), ok
}

// trimSpace removes what Python calls white space in Latin-1 text. strings.TrimSpace knows less of
// it: a name followed by the byte A0 would be the session cookie to Django and another to us.
func trimSpace(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(c byte) bool {
	return '\t' <= c && c <= '\r' || 0x1c <= c && c <= ' ' || c == 0x85 || c == 0xa0
}

// unquote undoes double quotes and, inside them, \ooo (octal, up to 377) and \c.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s) || s[i+1] == '\n':
			b.WriteByte(s[i])
		case i+3 < len(s) && '0' <= s[i+1] && s[i+1] <= '3' && isOctal(s[i+2]) && isOctal(s[i+3]):
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
		default:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isOctal(c byte) bool { return '0' <= c && c <= '7' }
