package redisclient

import (
	"context"
	"net"
)

// Names opens connections to hosts by their names.
type Names struct{ *names }

// NewNames returns Names that ask a resolver.
func NewNames(resolver *net.Resolver) Names { return Names{newNames(resolver)} }

// Dial opens a connection.
func (n Names) Dial(ctx context.Context, address string) (net.Conn, error) {
	return n.dial(ctx, "tcp", address)
}
