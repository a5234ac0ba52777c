//go:build !linux

package pubsub

import "net"

// newSocket returns c itself.
func newSocket(c net.Conn) (net.Conn, error) { return c, nil }
