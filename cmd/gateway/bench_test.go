package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"orgcast/internal/bench"
	"orgcast/internal/cli"
	"orgcast/internal/testkit/redistest"
)

// leaseEnv is that of a gateway whose leases are measured, and of the measurement.
func leaseEnv(redisAddr string) environment {
	return environment{
		"ORGCAST_REDIS": "redis://" + redisAddr, "ORGCAST_SESSION_STORE": "redis", "ORGCAST_SESSION_INSECURE": "true",
		"ORGCAST_DIRECTORY": "redis", "ORGCAST_LEASE_PERIOD": "200ms",
	}
}

// TestBenchLease measures a gateway once, with limits that only a broken one exceeds, once with
// limits that none can keep, and once at rest.
func TestBenchLease(t *testing.T) {
	redisAddr := redistest.Start(t)
	env := leaseEnv(redisAddr)
	s := startServe(t, redisAddr, env)
	s.expectReady()
	self := strconv.Itoa(os.Getpid())
	lease := func(args ...string) (stdout, stderr string, err error) {
		args = append([]string{"bench", "lease", "--url", "ws://" + s.public + "/ws/events", "--origin", testOrigin, "--sockets", "40", "--trials", "2"}, args...)
		return execute(t, env, "", args...)
	}

	stdout, stderr, err := lease("--announced-limit", "1m", "--unannounced-limit", "1m")
	if err != nil {
		t.Fatalf("got %v, want kept promises; stderr:\n%s", err, stderr)
	}
	for _, act := range []string{"logout", "switch", "removal", "role change", "suspension"} {
		for _, announced := range []string{"yes", "no"} {
			if !strings.Contains(stdout, "| "+act+" | "+announced+" | 2 | ") {
				t.Errorf("no row of %s, announced %s:\n%s", act, announced, stdout)
			}
		}
	}

	_, stderr, err = lease("--announced-limit", "0s", "--slack", "0s")
	if !errors.Is(err, cli.ExitError(bench.ExitUnfaithful)) || !strings.Contains(stderr, "promise broken: logout: took") {
		t.Errorf("no time at all: got %v, want exit code %d; stderr:\n%s", err, bench.ExitUnfaithful, stderr)
	}

	stdout, stderr, err = lease("--idle", "100ms", "--warmup", "0s", "--pid", self, "--redis-pid", self)
	if err != nil || !strings.Contains(stdout, "CPU of one core over 100ms: gateway ") || !strings.Contains(stdout, "KiB for each socket") {
		t.Errorf("at rest: got %v, stdout:\n%s\nstderr:\n%s", err, stdout, stderr)
	}
}
