// Command gateway is Orgcast: a WebSocket gateway whose unit of isolation is the organisation. Run
// it with --help for its subcommands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

// version is set by the linker.
var version = "dev"

func main() {
	// After the first signal the process says goodbye in order; stop gives the second its usual
	// meaning, which is to end the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	logging.Disable() // what matters are errors; subcommands with a log take the rest there
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	var code exitError
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code)) // whoever returned it has said why
	default:
		fmt.Fprintf(os.Stderr, "gateway: %v\n", err)
		os.Exit(1)
	}
}
