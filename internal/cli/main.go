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
	// After the first signal, the process shuts down gracefully. stop gives the second signal its
	// usual meaning, which is to end the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	logging.Disable() // errors are returned; subcommands with a log redirect this log to it
	p := Process{Getenv: os.Getenv, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if c, _, _ := g.find(os.Args[1:]); c.Stays {
		p.Hangups = outlive()
	}
	return ExitCode(g.Run(ctx, p, os.Args[1:]))
}

// outlive keeps the process alive when its terminal or parent exits, and returns its SIGHUP
// signals.
func outlive() (hangups <-chan os.Signal) {
	// If the reader of standard output or error is gone, a write ends a Go program unless it
	// handles this signal. Then the write returns an error, as with any other file. Ignoring the
	// signal would work too, but child processes would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	c := make(chan os.Signal, 1) // a second signal while files are being read requests one more reload
	signal.Notify(c, syscall.SIGHUP)
	return c
}
