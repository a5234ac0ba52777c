package bench_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"orgcast/internal/bench"
	"orgcast/internal/config"
	"orgcast/internal/testkit"
)

// TestMain makes the test binary behave as the gateway's does when the limit runs it again as its
// server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench" {
		c, args := bench.NewCommand(os.Args[2:])
		set := config.New("bench", "")
		c.Declare(set)
		if _, err := set.Parse(args, func(string) string { return "" }); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		code, err := c.Run(context.Background(), os.Stdin, os.Stdout, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code) //nolint:forbidigo // this process is not a test
	}
	testkit.Main(m)
}
