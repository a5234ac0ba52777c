//go:build !linux

package sse

import (
	"net"
	"time"
)

// boundUnacknowledged does nothing: the system decides when a peer that does not acknowledge is
// gone.
func boundUnacknowledged(net.Conn, time.Duration) error { return nil }
