// Package testkit is what tests of the whole path share: a client that speaks RFC 6455 byte by
// byte and so can also break its rules, a web application that knows sessions, a network in memory
// for tests with a fake clock, and waiting for conditions, the end of all goroutines included. Only
// tests import it.
package testkit

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Patience is how long tests wait for something that must happen. It is far longer than that takes
// on a busy machine, because a test that reaches it has failed.
const Patience = 60 * time.Second

// pollInterval is the pause between two checks of a condition.
const pollInterval = 2 * time.Millisecond

// Eventually waits until the condition holds and fails the test if it never does. It is for
// conditions without a signal to wait for, such as a counter.
func Eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	Poll(tb, pollInterval, what, holds)
}

// Poll is Eventually with a given pause between two checks, for conditions that cost more to check.
func Poll(tb testing.TB, pause time.Duration, what string, holds func() bool) {
	tb.Helper()
	deadline := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(deadline) {
			tb.Fatalf("never happened: %s", what)
		}
		time.Sleep(pause)
	}
}

// Main is a TestMain: it runs the tests of a package, and fails if goroutines are left over.
// Goroutines that are about to end have Patience to do so. goleak alone gives up after half a
// second, which is too short on a busy machine.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	if err := leaks(options); code == 0 && err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // this process is a test
}

// ExpectNoLeaks waits until no goroutine is left, except those in the options.
func ExpectNoLeaks(tb testing.TB, options ...goleak.Option) {
	tb.Helper()
	if err := leaks(options); err != nil {
		tb.Error(err)
	}
}

func leaks(options []goleak.Option) (err error) {
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); {
		if err = goleak.Find(options...); err == nil {
			return nil
		}
	}
	return err
}
