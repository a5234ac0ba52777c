package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"orgcast/internal/config"
)

// command is one subcommand.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, p *process, args []string) error
}

// process is what a subcommand may use of the world.
type process struct {
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// exitError is an error that has been reported already.
type exitError int

func (c exitError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// errUsage tells a mistake in arguments or settings from a failure at work.
const errUsage exitError = 2

func commands() []command {
	return []command{
		{"serve", "run the gateway (what happens without a subcommand)", serve},
		{"demo", "try it: two organisations in one browser window, nothing to install", demoCommand},
		{"publish", "publish an event to a group of an organisation", publishCommand},
		{"revoke", "end a session, a user, a membership or an organisation, on every node at once", revokeCommand},
		{"worker", "run tasks from Redis, each under its organisation", workerCommand},
		{"session", "mint or read a session cookie, for tests and debugging", sessionCommand},
		{"bench", "load a gateway and check every delivery", benchCommand},
		{"check", "report every mistake in the settings, and the effective settings", checkCommand},
		{"healthcheck", "ask a running gateway whether it is ready (exit code 0 or 1)", healthcheck},
		{"version", "print the version", printVersion},
	}
}

// run is the program: arguments in, error out. Only main exits.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	p := &process{getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr}
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "--help" || args[0] == "-h" || args[0] == "-help") {
		name = "help"
	}
	if name == "help" {
		p.help()
		return nil
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, p, args)
		}
	}
	_, _ = fmt.Fprintf(stderr, "gateway: no subcommand %q\n\n", name) // stderr may be closed
	p.help()
	return errUsage
}

func (p *process) help() {
	var b strings.Builder
	b.WriteString("Orgcast: WebSockets that belong to an organisation.\n\nUsage: gateway [SUBCOMMAND] [SETTINGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-13s %s\n", c.name, c.summary)
	}
	b.WriteString("\n`gateway SUBCOMMAND --help` tells more. Start with `gateway demo`.\n")
	_, _ = io.WriteString(p.stdout, b.String()) // stdout may be closed
}

// parse fills the settings. It reports help and mistakes itself; the caller returns the error.
func (p *process) parse(set *config.Set, args []string, checks ...func() error) ([]string, error) {
	rest, err := set.Parse(args, p.getenv, checks...)
	switch {
	case errors.Is(err, config.ErrHelp):
		set.Help(p.stdout)
		return nil, exitError(0)
	case err != nil:
		_, _ = fmt.Fprintf(p.stderr, "gateway: these settings are wrong:\n") // stderr may be closed
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, _ = fmt.Fprintf(p.stderr, "  - %s\n", line)
		}
		_, _ = fmt.Fprintf(p.stderr, "See `gateway %s --help`.\n", set.Name())
		return nil, errUsage
	}
	return rest, nil
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
