package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

// Main runs the program with the arguments, variables, files and signals of this process, and
// returns its exit code.
func (g Program) Main() int {
	// After the first signal the process shuts down gracefully; stop gives the second its usual
	// meaning, which is to end the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	logging.Disable() // what matters are errors; subcommands with a log take the rest there
	p := Process{Getenv: os.Getenv, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if c, _, _ := g.find(os.Args[1:]); c.Stays {
		p.Hangups = outlive()
	}
	return ExitCode(g.Run(ctx, p, os.Args[1:]))
}

// outlive keeps the process alive when its terminal or parent exits, and returns its hangups.
func outlive() (hangups <-chan os.Signal) {
	// A write to standard output or error that nobody can read any more ends a Go program unless it
	// takes this signal itself; it then gets an error, as from any other file. Ignoring the signal
	// would do, too, but child processes would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	c := make(chan os.Signal, 1) // a second one while files are being read asks for one more reading
	signal.Notify(c, syscall.SIGHUP)
	return c
}
