package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Origins is the list of pages that may open a connection (RFC 6454; RFC 6455, section 10.2).
// Browsers send the session cookie with a handshake from any page, so only this check keeps a
// foreign page from using its visitor's session. The zero Origins allows none.
type Origins struct {
	exact    map[string]bool // "https://app.example.com"
	suffixes []origin        // of "https://*.example.com", without the star
	missing  bool
	patterns []string // all, in the form of coder/websocket
}

// origin is a scheme and a host, with its port unless that is the scheme's default.
type origin struct{ scheme, host string }

// String spells it as browsers do.
func (o origin) String() string { return o.scheme + "://" + o.host }

// OriginMissing is the word in a list of origins that admits requests without an Origin header:
// programs, not browsers, which always send one.
const OriginMissing = "none"

// ParseOrigins reads a list of origins, each as browsers send it: a scheme and a host, possibly
// with a port. A host may begin with "*." for all names below it. [OriginMissing] may be in the
// list, too. Apps have their own schemes, such as capacitor://localhost. An entry that no browser
// would send is an error, unless it can be corrected: letter case, the scheme's default port, and
// the spelling of IP addresses.
func ParseOrigins(list []string) (Origins, error) {
	o := Origins{exact: make(map[string]bool)}
	var errs []error
	for _, text := range list {
		text = strings.ToLower(strings.TrimSpace(text))
		if text == OriginMissing {
			o.missing = true
			continue
		}
		page, err := parseOrigin(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q %w", text, err))
			continue
		}
		if rest, wild := strings.CutPrefix(page.host, "*"); wild {
			o.suffixes = append(o.suffixes, origin{page.scheme, rest})
		} else {
			o.exact[page.String()] = true
		}
		// coder/websocket takes patterns, in which brackets have a meaning.
		o.patterns = append(o.patterns, strings.NewReplacer("[", `\[`, "]", `\]`).Replace(page.String()))
	}
	return o, errors.Join(errs...)
}

// defaultPorts are left out by browsers.
var defaultPorts = map[string]string{"http": "80", "https": "443"} //nolint:gochecknoglobals // constant

// schemePattern is the form of a scheme (RFC 3986, section 3.1).
var schemePattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)

// parseOrigin reads one origin, in lower case. The text of its error follows the origin.
func parseOrigin(text string) (origin, error) {
	scheme, host, ok := strings.Cut(text, "://")
	switch {
	case text == "*":
		return origin{}, errors.New("would let any page use its visitors' sessions: list the origins to allow")
	case text == "null":
		return origin{}, errors.New("is the origin of many unrelated pages, so it cannot be allowed")
	case !ok || host == "" || !schemePattern.MatchString(scheme):
		return origin{}, errors.New("must be an origin, such as https://app.example.com, https://*.example.com, http://localhost:3000 or none")
	case scheme == "ws" || scheme == "wss":
		return origin{}, fmt.Errorf("must be the origin of a page: write http%s://", scheme[2:])
	case scheme == "file" || scheme == "data" || scheme == "blob" || scheme == "about":
		return origin{}, fmt.Errorf("is never sent: pages of %s: have the origin null", scheme)
	case strings.ContainsAny(host, "/?#@"):
		return origin{}, errors.New("must end after the host or port: browsers send no path and no user")
	}
	name, port, err := splitPort(host)
	if err != nil {
		return origin{}, err
	}
	if name, err = canonicalHost(name); err != nil {
		return origin{}, err
	}
	if port != "" && port != defaultPorts[scheme] {
		name += ":" + port
	}
	return origin{scheme, name}, nil
}

// splitPort splits a port, without leading zeros, from a host.
func splitPort(host string) (name, port string, err error) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.HasSuffix(host, "]") {
		return host, "", nil
	}
	n, err := strconv.ParseUint(host[i+1:], 10, 16)
	if err != nil || n == 0 {
		return "", "", fmt.Errorf("has port %q: must be a number from 1 to 65535", host[i+1:])
	}
	return host[:i], strconv.FormatUint(n, 10), nil
}

// canonicalHost spells a host as browsers do.
func canonicalHost(name string) (string, error) {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !ip.Is6() || ip.Zone() != "" {
			return "", errors.New("must have an IPv6 address between the brackets")
		}
		return "[" + ip.String() + "]", nil
	}
	rest, wild := strings.CutPrefix(name, "*")
	switch {
	case strings.ContainsFunc(rest, func(r rune) bool { return r > unicode.MaxASCII }):
		return "", errors.New("must be written as browsers send it: in ASCII, such as xn--bcher-kva.example")
	case strings.Contains(rest, ":"):
		return "", errors.New("must have its IPv6 address in brackets, such as http://[::1]:3000")
	case rest == "" || wild && (!strings.HasPrefix(rest, ".") || rest == ".") || strings.ContainsFunc(rest, func(r rune) bool { return !isHostRune(r) }):
		return "", errors.New("must have a host, of which only the first label may be *")
	}
	return name, nil
}

// Empty reports whether no page is allowed.
func (o Origins) Empty() bool { return len(o.exact) == 0 && len(o.suffixes) == 0 }

// Allows reports whether the request comes from an allowed page. A request with several Origin
// headers, or with "null", does not.
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
		if scheme == s.scheme && strings.HasSuffix(host, s.host) && len(host) > len(s.host) {
			return true
		}
	}
	return false
}

// isHostRune reports whether a host with a port may contain the character.
func isHostRune(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_' || r == ':'
}
