package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Origins is the list of pages that may open a connection (RFC 6454; RFC 6455, section 10.2). The
// session cookie travels with a handshake from any page, so this check is what keeps a foreign
// page from speaking with its visitor's session. The zero Origins allows none.
type Origins struct {
	exact    map[string]bool // "https://app.example.com"
	suffixes []origin        // of "https://*.example.com"
	missing  bool
	patterns []string // all, in the form of coder/websocket
}

type origin struct{ scheme, dotHost string }

// OriginMissing is the word in a list of origins that admits requests without an Origin header:
// programs, not browsers, which always send one.
const OriginMissing = "none"

var errBadOrigin = errors.New("gateway: origin is not of the form https://HOST, https://HOST:PORT, https://*.HOST or none")

// ParseOrigins reads a list of origins. Each is a scheme and a host, perhaps with a port; a host
// may begin with "*." for all names below it; or it is [OriginMissing].
func ParseOrigins(list []string) (Origins, error) {
	o := Origins{exact: make(map[string]bool)}
	var errs []error
	for _, text := range list {
		text = strings.ToLower(strings.TrimSpace(text))
		if text == OriginMissing {
			o.missing = true
			continue
		}
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.String() != u.Scheme+"://"+u.Host {
			errs = append(errs, fmt.Errorf("%w: %q", errBadOrigin, text))
			continue
		}
		rest, wild := strings.CutPrefix(u.Host, "*")
		if strings.ContainsAny(rest, "*?[\\") || wild && !strings.HasPrefix(rest, ".") {
			errs = append(errs, fmt.Errorf("%w: %q", errBadOrigin, text))
			continue
		}
		if wild {
			o.suffixes = append(o.suffixes, origin{u.Scheme, rest})
		} else {
			o.exact[text] = true
		}
		o.patterns = append(o.patterns, text)
	}
	return o, errors.Join(errs...)
}

// Empty reports whether no page at all is allowed.
func (o Origins) Empty() bool { return len(o.exact) == 0 && len(o.suffixes) == 0 }

// Allows reports whether the request comes from an allowed page. Several Origin headers, and
// "null", never do.
func (o Origins) Allows(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return o.missing
	}
	if len(values) > 1 {
		return false
	}
	text := strings.ToLower(values[0])
	if o.exact[text] {
		return true
	}
	scheme, host, ok := strings.Cut(text, "://")
	if !ok || strings.ContainsFunc(host, func(r rune) bool { return !isHostRune(r) }) {
		return false
	}
	for _, s := range o.suffixes {
		if scheme == s.scheme && strings.HasSuffix(host, s.dotHost) && len(host) > len(s.dotHost) {
			return true
		}
	}
	return false
}

// isHostRune reports whether a name with a port may hold the character.
func isHostRune(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_' || r == ':'
}
