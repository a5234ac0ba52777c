package redisclient

import (
	"context"
	"net"
	"net/netip"
)

// Names opens connections to hosts by their names.
type Names struct{ *names }

// NewNames returns Names that ask a resolver.
func NewNames(resolver *net.Resolver) Names { return Names{newNames(resolver)} }

// Dial opens a connection.
func (n Names) Dial(ctx context.Context, address string) (net.Conn, error) {
	return n.dial(ctx, "tcp", address)
}

// UnderWay returns what waits for the answer to the look-up of a host that is under way, or nil.
func (n Names) UnderWay(host string) func() ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.asked[host]
	if l == nil {
		return nil
	}
	return func() ([]netip.Addr, error) {
		<-l.answered
		return l.addresses, l.err
	}
}
