package consumer

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

// Route says which consumer serves a path, and which requests it admits.
type Route struct {
	// Pattern is a path of literal segments and named ones, {name}, which match one segment of any
	// text. {name:int} matches decimal digits only, and {name:id} the form of an identifier.
	Pattern string
	// New returns the consumer of one connection. It may return the same one each time if that has
	// no state.
	New func() OrganizationAwareConsumer
	// WithoutOrganization also admits sessions without an active organization. Such a connection
	// cannot join groups.
	WithoutOrganization bool
	// Explain upgrades refused connections only to close them with a code that tells the browser
	// the reason. Without it, a browser sees 1006 whatever the reason.
	Explain bool
	// WhenFull decides what happens if a browser reads more slowly than its events come. The zero
	// value ends the connection.
	WhenFull WhenFull
}

// WhenFull is what happens to events if a connection's queue has no room for them.
type WhenFull int

const (
	// Disconnect ends the connection with 4413. The browser reconnects and gets a fresh state.
	Disconnect WhenFull = iota
	// DropOldest drops the oldest events and puts a gap frame in their place.
	DropOldest
	// Latest keeps only the newest of the events of one group and type, and ends the connection if
	// even those do not fit. It is for states that replace each other, such as progress.
	Latest
)

// ParseWhenFull parses disconnect, drop_oldest or latest.
func ParseWhenFull(text string) (WhenFull, bool) {
	i := slices.Index(WhenFullNames(), text)
	return WhenFull(max(i, 0)), i >= 0
}

// WhenFullNames lists the names of the policies in their order.
func WhenFullNames() []string { return []string{"disconnect", "drop_oldest", "latest"} }

// Registry finds the route of a path. Routes are added before serving. Declared ones may be
// replaced while serving.
type Registry struct {
	routes   []compiledRoute
	declared atomic.Pointer[[]compiledRoute]
}

type compiledRoute struct {
	route    *Route
	segments []segment
}

type segment struct {
	literal  string
	name     string                  // of a parameter, else empty
	formName string                  // "int", "id" or empty
	form     func(part *string) bool // checks a parameter and decodes it
}

// Params are the named parts of a path.
type Params []param

type param struct{ name, value string }

// Get returns the value of the part called name, "" if there is none.
func (p Params) Get(name string) string {
	for _, v := range p {
		if v.name == name {
			return v.value
		}
	}
	return ""
}

var errBadPattern = errors.New("consumer: invalid route pattern")

// Add adds a route. Earlier routes win over later ones.
func (r *Registry) Add(route Route) error {
	compiled, err := compile(route)
	if err != nil {
		return err
	}
	r.routes = append(r.routes, compiled)
	return nil
}

// AddApart adds a route like Add, but refuses a route that overlaps with another one.
func (r *Registry) AddApart(route Route) error {
	compiled, err := compile(route)
	if err != nil {
		return err
	}
	if err := compiled.apart(r.routes); err != nil {
		return err
	}
	r.routes = append(r.routes, compiled)
	return nil
}

// PrepareDeclared compiles routes that may change while the gateway serves. apply replaces the
// previously declared routes with them. Connections keep their route. Two routes that match the
// same path are an error, whether or not both are declared.
func (r *Registry) PrepareDeclared(routes []Route) (apply func(), err error) {
	list := make([]compiledRoute, 0, len(routes))
	var errs []error
	for _, route := range routes {
		compiled, err := compile(route)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, compiled.apart(slices.Concat(r.routes, list)))
		list = append(list, compiled)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func() { r.declared.Store(&list) }, nil
}

// compile prepares a route for matching.
func compile(route Route) (compiledRoute, error) {
	if route.New == nil {
		return compiledRoute{}, fmt.Errorf("%w: %q", errBadPattern, route.Pattern)
	}
	segments, err := parsePattern(route.Pattern)
	return compiledRoute{route: &route, segments: segments}, err
}

// Param is a named segment of a pattern.
type Param struct {
	Name string
	Form string // "int", "id", or empty for any text
}

// ParsePattern returns the named segments of a pattern.
func ParsePattern(pattern string) ([]Param, error) {
	segments, err := parsePattern(pattern)
	var params []Param
	for _, s := range segments {
		if s.name != "" {
			params = append(params, Param{s.name, s.formName})
		}
	}
	return params, err
}

func parsePattern(pattern string) ([]segment, error) {
	bad := fmt.Errorf("%w: %q", errBadPattern, pattern)
	rest, ok := strings.CutPrefix(pattern, "/")
	if !ok {
		return nil, bad
	}
	var segments []segment
	for part := range strings.SplitSeq(rest, "/") {
		inner, named := strings.CutPrefix(part, "{")
		if !named {
			segments = append(segments, segment{literal: part})
			continue
		}
		inner, closed := strings.CutSuffix(inner, "}")
		name, form, _ := strings.Cut(inner, ":")
		fits, known := segmentForm(form)
		if !closed || name == "" || !known {
			return nil, bad
		}
		segments = append(segments, segment{name: name, formName: form, form: fits})
	}
	return segments, nil
}

// apart returns an error for each other route that can match the same path.
func (c *compiledRoute) apart(others []compiledRoute) error {
	var errs []error
	for _, other := range others {
		if c.overlaps(other) {
			errs = append(errs, fmt.Errorf("path %s: the path %s is there already and matches the same requests", c.route.Pattern, other.route.Pattern))
		}
	}
	return errors.Join(errs...)
}

// overlaps reports whether one path can match both routes.
func (c *compiledRoute) overlaps(other compiledRoute) bool {
	if len(c.segments) != len(other.segments) {
		return false
	}
	for i, a := range c.segments {
		b := other.segments[i]
		if a.name == "" {
			a, b = b, a
		}
		literal := b.literal
		switch {
		case a.name == "" && a.literal != b.literal: // both are literal
			return false
		case a.name != "" && b.name == "" && !a.form(&literal):
			return false
		}
	}
	return true
}

// Match returns the route of a path as it stands in the request, without decoding. A proxy in front
// may have rules for paths, and a path that it did not recognize must not become one of ours here.
// So literal segments, numbers and identifiers have one spelling each. Segments of any text may
// contain necessary percent-encoding, and are decoded.
func (r *Registry) Match(path string) (*Route, Params, bool) {
	for i := range r.routes {
		if params, ok := r.routes[i].match(path); ok {
			return r.routes[i].route, params, true
		}
	}
	if declared := r.declared.Load(); declared != nil {
		for i := range *declared {
			if params, ok := (*declared)[i].match(path); ok {
				return (*declared)[i].route, params, true
			}
		}
	}
	return nil, nil, false
}

func (c *compiledRoute) match(path string) (Params, bool) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, false
	}
	var params Params
	for i, seg := range c.segments {
		part, after, more := strings.Cut(rest, "/")
		if more != (i < len(c.segments)-1) {
			return nil, false
		}
		switch {
		case seg.name == "":
			if part != seg.literal {
				return nil, false
			}
		case !seg.form(&part):
			return nil, false
		default:
			params = append(params, param{seg.name, strings.Clone(part)}) // not to keep the whole request
		}
		rest = after
	}
	return params, true
}

// segmentForm returns the check of a named segment.
func segmentForm(form string) (func(*string) bool, bool) {
	switch form {
	case "":
		return decodeSegment, true
	case "int":
		return func(part *string) bool { return isDigits(*part) }, true
	case "id":
		return func(part *string) bool { return orgctx.ValidID(*part) }, true
	default:
		return nil, false
	}
}

// decodeSegment decodes a segment. It refuses segments that proxies and file systems do not take
// for a name, and unnecessary escapes (RFC 3986, section 2.3), with which one text would have
// several spellings.
func decodeSegment(part *string) bool {
	text, err := url.PathUnescape(*part)
	if err != nil || !utf8.ValidString(text) || text == "" || text == "." || text == ".." {
		return false
	}
	for i, escape := range strings.Split(*part, "%") {
		if i == 0 {
			continue
		}
		c, err := strconv.ParseUint(escape[:2], 16, 8) // PathUnescape has checked the form
		if err != nil || c < ' ' || c == 0x7f || strings.IndexByte(needless, byte(c)) >= 0 {
			return false
		}
	}
	*part = text
	return true
}

// needless lists the characters that need no escape in a path, and the separators, which must not
// be escaped.
const needless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/\\"

// isDigits accepts numbers that fit into a signed 64-bit integer, without leading zeros, so that
// one number has one spelling and names one group.
func isDigits(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}
