package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/journal"
)

// command is one subcommand.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, p *process, args []string) error
	// stays is set for subcommands that run until they are stopped. They outlive the terminal that
	// started them and the readers of their output.
	stays bool
	// logs is set for subcommands that log to standard error. Nothing may wait for that log.
	logs bool
}

// process is what a subcommand may use of the world.
type process struct {
	getenv         func(string) string
	environ        []string // all variables, as NAME=VALUE
	stdin          io.Reader
	stdout, stderr io.Writer
	// hangups brings each SIGHUP to a subcommand that stays; nil in others.
	hangups <-chan os.Signal
	// declared, unless it is nil, receives the settings of a subcommand, which then does not run.
	declared func(set *config.Set)
	// moreRoutes are served in addition to ours; for tests.
	moreRoutes []namedRoute
	// journal is what stderr is in subcommands that log. It has room for journalBytes, or its
	// default.
	journal      *journal.Writer
	journalBytes int
}

// flushTimeout is how long the end of a process waits for the reader of its log.
const flushTimeout = 5 * time.Second

// exitError is an error that has been reported already.
type exitError int

func (c exitError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// errUsage tells a mistake in arguments or settings from a failure at work.
const errUsage exitError = 2

func commands() []command {
	return []command{
		{name: "serve", summary: "run the gateway (default)", run: serve, stays: true, logs: true},
		{name: "demo", summary: "try it: two organizations in one browser window, nothing to install", run: demoCommand, stays: true, logs: true},
		{name: "publish", summary: "publish an event to a group of an organization", run: publishCommand},
		{name: "revoke", summary: "revoke a session, user, membership or organization on every node at once", run: revokeCommand},
		{name: "worker", summary: "run tasks from Redis, each in the context of its organization", run: workerCommand, stays: true, logs: true},
		{name: "session", summary: "mint or read a session cookie, for tests and debugging", run: sessionCommand},
		{name: "bench", summary: "load-test a gateway and check every delivery", run: benchCommand, stays: true},
		{name: "check", summary: "check the settings and print the effective ones", run: checkCommand},
		{name: "healthcheck", summary: "ask a running gateway whether it is ready (exit code 0 or 1)", run: healthcheck},
		{name: "version", summary: "print the version", run: printVersion},
	}
}

// find returns the subcommand that the arguments name, with the rest of them. Without a name it is
// serve.
func find(args []string) (c command, name string, rest []string) {
	name, rest = "serve", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, rest = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "--help" || args[0] == "-h" || args[0] == "-help") {
		name = "help"
	} else if len(args) > 0 && (args[0] == "--version" || args[0] == "-version") {
		name, rest = "version", nil
	}
	if name == "help" && len(args) > 1 { // help SUBCOMMAND
		name, rest = args[1], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name == name {
			return c, name, rest
		}
	}
	return command{}, name, rest
}

// exitCode returns the exit code for an error of run.
func exitCode(err error) int {
	code := exitError(1)
	if err == nil {
		code = 0
	} else {
		_ = errors.As(err, &code) // else it is 1
	}
	return int(code)
}

// run is the program: arguments in, error out, which it has told on standard error. Only main exits.
func (p *process) run(ctx context.Context, args []string) (err error) {
	if p.unconfigured(args) { // a container that has its settings in variables serves without arguments
		p.help(p.stderr)
		return errUsage
	}
	c, name, rest := find(args)
	switch {
	case name == "help":
		p.help(p.stdout)
		return nil
	case c.run == nil:
		_, _ = fmt.Fprintf(p.stderr, "gateway: no subcommand %q\n\n", name) // stderr may be closed
		p.help(p.stderr)
		return errUsage
	}
	if c.logs {
		defer p.openJournal()()
	}
	err = c.run(ctx, p, rest)
	if code := exitError(0); err != nil && !errors.As(err, &code) { // an exitError was reported where it was returned
		_, _ = fmt.Fprintf(p.stderr, "gateway: %v\n", err) // stderr may be closed
	}
	return err
}

// openJournal makes standard error a log that nothing waits for: parts write to it while they
// serve, the reader may be stuck, and the way out must not wait for it either. closeIt writes what
// is queued, for a limited time.
func (p *process) openJournal() (closeIt func()) {
	stderr := p.stderr
	p.journal = journal.NewWriter(stderr, p.journalBytes)
	p.stderr = p.journal
	return func() {
		closeJournal(p.journal)
		p.stderr = stderr
	}
}

func closeJournal(w *journal.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = w.Close(ctx) // if the reader is stuck, there is nowhere to report it
}

func (*process) help(w io.Writer) {
	var b strings.Builder
	b.WriteString("Orgcast: WebSockets that belong to an organization.\n\nUsage: gateway [SUBCOMMAND] [SETTINGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-13s %s\n", c.name, c.summary)
	}
	b.WriteString("\n`gateway SUBCOMMAND --help` tells more. Start with `gateway demo`.\n")
	_, _ = io.WriteString(w, b.String()) // it may be closed
}

// parse fills the settings. It reports help and mistakes itself; the caller returns the error.
func (p *process) parse(set *config.Set, args []string, checks ...func() error) ([]string, error) {
	if p.declared != nil {
		p.declared(set)
		return nil, exitError(0)
	}
	rest, err := set.Parse(args, p.getenv, checks...)
	return rest, p.report(set, err)
}

// report shows help and mistakes of settings, and returns the error for the shell.
func (p *process) report(set *config.Set, err error) error {
	switch {
	case errors.Is(err, config.ErrHelp):
		set.Help(p.stdout)
		return exitError(0)
	case err != nil:
		_, _ = fmt.Fprintf(p.stderr, "gateway: invalid configuration:\n") // stderr may be closed
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, _ = fmt.Fprintf(p.stderr, "  - %s\n", line)
		}
		_, _ = fmt.Fprintf(p.stderr, "See `gateway %s --help`.\n", set.Name())
		return errUsage
	}
	return nil
}

// misused reports that arguments are missing or too many. The list of settings would push that out of
// sight.
func (p *process) misused(set *config.Set, args []string) error {
	_, _ = fmt.Fprintf(p.stderr, "gateway: %s cannot be called with %q\n\n%s\nSee `gateway %[1]s --help` for its settings.\n", set.Name(), args, set.Usage()) // stderr may be closed
	return errUsage
}

func printVersion(_ context.Context, p *process, _ []string) error {
	_, err := fmt.Fprintln(p.stdout, version)
	return err
}
