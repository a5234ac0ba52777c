package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the peers whose X-Forwarded-For header is believed. The zero Proxies trusts none.
type Proxies struct{ trusted []netip.Prefix }

const (
	// maxHops bounds how many addresses of a request are read: no chain of proxies is longer.
	maxHops = 32
	// maxHop is longer than any address with a zone and a port.
	maxHop = 64
)

// ParseProxies reads a list of addresses and networks in CIDR notation.
func ParseProxies(list []string) (Proxies, error) {
	var p Proxies
	var errs []error
	for _, text := range list {
		network, err := parseNetwork(strings.TrimSpace(text))
		if err != nil {
			errs = append(errs, fmt.Errorf("%q %w", text, err))
			continue
		}
		p.trusted = append(p.trusted, network)
	}
	return p, errors.Join(errs...)
}

// parseNetwork reads one entry. The text of its error follows the entry.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("must be an IP address or a network, such as 10.0.0.0/8 or 2001:db8::/32")
	case network.Bits() == 0:
		return netip.Prefix{}, errors.New("would trust every peer, so that any client could invent its address")
	case network.Addr().Is4In6():
		return netip.Prefix{}, errors.New("must be written as an IPv4 network, such as 10.0.0.0/8")
	case network != network.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits set behind the prefix: write %s", network.Masked())
	}
	return network, nil
}

// trusts reports whether the address is a trusted proxy's.
func (p Proxies) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p.trusted, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// Client returns the address of the client that made a request: the peer's, unless the peer is a
// trusted proxy. Then it reads X-Forwarded-For from the right, where each proxy adds the address
// that it saw, and returns the first address that is not a trusted proxy's. Everything to the left
// of that was sent by the client, who may have invented it. At an entry that is not an address,
// Client stops and returns the last proxy that it could verify.
func (p Proxies) Client(r *http.Request) string {
	addr, ok := parseHop(r.RemoteAddr)
	if !ok {
		return r.RemoteAddr // net/http's own, such as that of a network in memory
	}
	if len(p.trusted) == 0 {
		return addr.String()
	}
	hops := 0
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for more := true; more; hops++ {
			if hops == maxHops || !p.trusts(addr) {
				return addr.String()
			}
			var entry string
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				entry, line = line[i+1:], line[:i]
			} else {
				entry, more = line, false
			}
			next, ok := parseHop(entry)
			if !ok {
				return addr.String()
			}
			addr = next
		}
	}
	return addr.String()
}

// parseHop reads an address that may have a port. It drops the zone, which is arbitrary text of the
// sender.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t")
	if len(text) > maxHop {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(text)
		addr = withPort.Addr()
	}
	if err != nil { // brackets without a port
		if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
			addr, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if err == nil && !addr.Is6() {
				return netip.Addr{}, false
			}
		}
	}
	return addr.Unmap().WithZone(""), err == nil
}
