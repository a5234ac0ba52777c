package testkit

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreeAddress returns an address at which a test will listen later. Its port is below those that
// Linux gives to outgoing connections and to listeners that do not choose, which may take theirs
// before the test does. For an address at which nobody will ever listen, use 127.0.0.1:1.
func FreeAddress(tb testing.TB) (addr string) {
	tb.Helper()
	const first, last = 10_000, 16_000
	Eventually(tb, "a port that is free", func() bool {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first))) //nolint:gosec // a port is no secret
		l, err := net.Listen("tcp", addr)                                               //nolint:noctx // returns at once
		return err == nil && l.Close() == nil
	})
	return addr
}
