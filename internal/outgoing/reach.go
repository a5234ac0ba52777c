package outgoing

import (
	"context"
	"net/netip"
	"slices"
	"syscall"
)

// reach says which addresses URLs of organizations lead to. It looks at the address to which a
// connection is about to be made, when its name has been resolved: what a name resolves to at
// another time does not count.
type reach struct {
	networks []netip.Prefix // allowed although they are not public
}

// control is a net.Dialer's ControlContext.
func (r reach) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !r.allows(to.Addr()) {
		return ErrPrivateAddress
	}
	return nil
}

func (r reach) allows(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	return isPublic(addr) || slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// isPublic reports whether an address belongs to a host somewhere on the Internet. Of IPv6 this is
// the one block that is given out, without what leads back to IPv4.
func isPublic(addr netip.Addr) bool {
	if addr.Is6() && !netip.MustParsePrefix("2000::/3").Contains(addr) {
		return false
	}
	return !slices.ContainsFunc(special(), func(text string) bool { return netip.MustParsePrefix(text).Contains(addr) })
}

// special are the networks of the registries of special-purpose addresses (RFC 6890), and
// multicast.
func special() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
	}
}
