// Package testkit is what tests of the whole path share: a client that speaks RFC 6455 byte by
// byte and so can also break its rules, a network in memory for tests with a fake clock, and
// waiting for conditions. Only tests import it.
package testkit

import (
	"testing"
	"time"
)

// Patience is how long tests wait for what must happen: far longer than it takes on a busy
// machine, since a test that reaches it has failed.
const Patience = 20 * time.Second

// pollInterval is the pause between two looks at a condition.
const pollInterval = 2 * time.Millisecond

// Eventually waits until the condition holds and fails the test if it never does. It is for what
// gives no signal to wait for, such as a counter.
func Eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	deadline := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(deadline) {
			tb.Fatalf("never happened: %s", what)
		}
		time.Sleep(pollInterval)
	}
}
