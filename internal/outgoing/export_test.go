package outgoing

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// Sign sets the headers of a call.
func (k Keys) Sign(h http.Header, id string, at time.Time, body []byte) { k.sign(h, id, at, body) }

// Allows reports whether a URL of an organization may lead to an address.
func Allows(networks []netip.Prefix, addr netip.Addr) bool { return reach{networks}.allows(addr) }

// Resolve makes both kinds of calls ask another resolver.
func (c *Client) Resolve(tb testing.TB, r *net.Resolver) {
	tb.Helper()
	c.organization.Transport.(*http.Transport).DialContext = (&net.Dialer{
		Timeout: dialTimeout, Resolver: r, ControlContext: reach{networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}.control,
	}).DialContext
}

// FailuresInARow open the circuit for OpenFor.
const (
	FailuresInARow = failuresInARow
	OpenFor        = openFor
)

// SetClock gives an endpoint's circuit another clock.
func (e *Endpoint) SetClock(now func() time.Time) { e.circuit.now = now }

// Known returns how many organizations an endpoint has something of in memory.
func (e *Endpoint) Known() int {
	e.turns.mu.Lock()
	defer e.turns.mu.Unlock()
	e.circuit.mu.Lock()
	defer e.circuit.mu.Unlock()
	return len(e.turns.lines) + len(e.circuit.failing)
}
