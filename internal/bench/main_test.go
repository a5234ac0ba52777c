package bench_test

import (
	"context"
	"os"
	"testing"

	"orgcast/internal/bench"
	"orgcast/internal/testkit"
)

// TestMain makes the test binary behave as the gateway's does when the limit runs it again as its
// server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench" {
		//nolint:forbidigo // this process is no test
		os.Exit(bench.Main(context.Background(), os.Args[2:], bench.DefaultOptions(), os.Stdout, os.Stderr))
	}
	testkit.Main(m)
}
