// Package cli is the command line of the gateway: its subcommands, their settings, help and exit
// codes. Package app assembles the parts of a process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/journal"
)

// Program is one build of the gateway: the standard one, or one with extensions.
type Program struct {
	Build app.Build
	// Commands are additional subcommands.
	Commands []Command
	// Extension is what the gateway and its workers do in addition.
	Extension app.Extension
}

// Command is one subcommand.
type Command struct {
	Name    string
	Summary string
	// Run declares its settings and calls [Process.Parse] before it does anything else.
	Run func(ctx context.Context, p *Process, args []string) error
	// Stays is set for subcommands that run until they are stopped. They continue when their
	// terminal or the readers of their output exit.
	Stays bool
	// Logs is set for subcommands that log to standard error. The log must never block them.
	Logs bool
	// First is set for the subcommand that newcomers should start with.
	First bool
}

// Process is the environment that a subcommand may use.
type Process struct {
	Getenv         func(string) string
	Environ        []string // all variables, as NAME=VALUE
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Hangups receives each SIGHUP if the subcommand stays, and is nil for others.
	Hangups <-chan os.Signal
	// LogBytes is how much of the log may wait for its reader. 0 means the default.
	LogBytes int

	program *Program
	// declared, unless nil, receives the settings of a subcommand, which then does not run.
	declared func(set *config.Set)
	// journal is behind Stderr in subcommands that log, at a level.
	journal *journal.Writer
	level   zap.AtomicLevel
}

// flushTimeout is how long a process waits at its end for the reader of its log.
const flushTimeout = 5 * time.Second

// ExitError is an error that has been reported already.
type ExitError int

func (c ExitError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// ErrUsage is for mistakes in arguments or settings, as opposed to failures at run time.
const ErrUsage ExitError = 2

// usageError is a mistake in an argument that is reported by its text alone.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misuse makes an error one of the arguments, nil for nil.
func misuse(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// commands returns all subcommands, in the order of the help.
func (g Program) commands() []Command {
	list := []Command{{Name: "serve", Summary: "run the gateway (default)", Run: serve, Stays: true, Logs: true}}
	list = append(list, g.Commands...)
	return append(list,
		Command{Name: "publish", Summary: "publish an event to a group of an organization", Run: publishCommand},
		Command{Name: "revoke", Summary: "revoke a session, user, membership or organization on every node at once", Run: revokeCommand},
		Command{Name: "worker", Summary: "run tasks from Redis, each in the context of its organization", Run: workerCommand, Stays: true, Logs: true},
		Command{Name: "tasks", Summary: "list, show, retry or drop tasks", Run: tasksCommand},
		Command{Name: "webhooks", Summary: "list or retry webhooks that could not be delivered, or print a key", Run: webhooksCommand},
		Command{Name: "top", Summary: "show the largest organizations of all nodes, live", Run: topCommand},
		Command{Name: "tail", Summary: "show the events of an organization as they pass", Run: tailCommand},
		Command{Name: "connections", Summary: "list the open connections of all nodes", Run: connectionsCommand},
		Command{Name: "presence", Summary: "show who is in a group, on all nodes", Run: presenceCommand},
		Command{Name: "usage", Summary: "show what organizations used, hour by hour", Run: usageCommand},
		Command{Name: "explain", Summary: "show why an event did not reach browsers", Run: explainCommand},
		Command{Name: "session", Summary: "mint or read a session cookie, for tests and debugging", Run: sessionCommand},
		Command{Name: "bench", Summary: "load-test a gateway and check every delivery", Run: benchCommand, Stays: true},
		Command{Name: "check", Summary: "check the settings and print the effective ones", Run: checkCommand},
		Command{Name: "config", Summary: "begin a settings file, show the effective settings, print their reference", Run: configCommand},
		Command{Name: "healthcheck", Summary: "ask a running gateway whether it is ready (exit code 0 or 1)", Run: healthcheck},
		Command{Name: "version", Summary: "print the version", Run: printVersion},
	)
}

// Names returns the names of all subcommands.
func (g Program) Names() (names []string) {
	for _, c := range g.commands() {
		names = append(names, c.Name)
	}
	return names
}

// find returns the subcommand that the arguments name, and the remaining arguments. Without a name,
// it returns serve.
func (g Program) find(args []string) (c Command, name string, rest []string) {
	name, rest = "serve", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, rest = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "--help" || args[0] == "-h" || args[0] == "-help") {
		name = "help"
	} else if len(args) > 0 && (args[0] == "--version" || args[0] == "-version") {
		name, rest = "version", args[1:]
	}
	if name == "help" && len(args) > 1 { // help SUBCOMMAND
		name, rest = args[1], []string{"--help"}
	}
	for _, c := range g.commands() {
		if c.Name == name {
			return c, name, rest
		}
	}
	return Command{}, name, rest
}

// ExitCode returns the exit code for an error of [Program.Run].
func ExitCode(err error) int {
	code := ExitError(1)
	switch {
	case err == nil:
		code = 0
	case errors.As(err, new(usageError)):
		code = ErrUsage
	default:
		_ = errors.As(err, &code) // else it is 1
	}
	return int(code)
}

// Run runs the program with arguments and returns an error, after it has reported it on standard
// error. Only Main exits.
func (g Program) Run(ctx context.Context, p Process, args []string) error {
	p.program = &g
	return p.run(ctx, args)
}

func (p *Process) run(ctx context.Context, args []string) (err error) {
	if p.unconfigured(args) { // a container with its settings in variables serves without arguments
		p.help(p.Stderr)
		return ErrUsage
	}
	c, name, rest := p.program.find(args)
	switch {
	case name == "help":
		p.help(p.Stdout)
		return nil
	case c.Run == nil:
		_, _ = fmt.Fprintf(p.Stderr, "gateway: unknown subcommand %q\n\n", name) // stderr may be closed
		p.help(p.Stderr)
		return ErrUsage
	}
	if c.Logs {
		defer p.openJournal()()
	}
	err = c.Run(ctx, p, rest)
	if errors.Is(err, ExitError(0)) { // it was asked for help
		return nil
	}
	if code := ExitError(0); err != nil && !errors.As(err, &code) { // an ExitError has been reported where it was returned
		_, _ = fmt.Fprintf(p.Stderr, "gateway: %v\n", err) // stderr may be closed
	}
	return err
}

// openJournal makes standard error a log that never blocks: parts write to it while they serve, its
// reader may be stuck, and even the end of the process must not wait for it. closeIt writes queued
// lines, for a limited time.
func (p *Process) openJournal() (closeIt func()) {
	stderr := p.Stderr
	p.journal = journal.NewWriter(stderr, p.LogBytes)
	p.Stderr = p.journal
	return func() {
		CloseJournal(p.journal)
		p.Stderr = stderr
	}
}

// NewLogger returns the log of a subcommand that logs.
func (p *Process) NewLogger(o *app.Options) (*zap.Logger, error) {
	log, level, err := o.NewLogger(p.journal)
	p.level = level
	return log, err
}

// CloseJournal writes queued lines, for a limited time.
func CloseJournal(w *journal.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = w.Close(ctx) // if the reader is stuck, there is nowhere to report it
}

func (p *Process) help(w io.Writer) {
	var b strings.Builder
	b.WriteString("Orgcast: WebSockets that belong to an organization.\n\nUsage: gateway [SUBCOMMAND] [SETTINGS]\n\n")
	first := ""
	for _, c := range p.program.commands() {
		fmt.Fprintf(&b, "  %-13s %s\n", c.Name, c.Summary)
		if c.First {
			first = fmt.Sprintf(" To start, try `gateway %s`.", c.Name)
		}
	}
	fmt.Fprintf(&b, "\nFor details, see `gateway SUBCOMMAND --help`.%s\n", first)
	_, _ = io.WriteString(w, b.String()) // it may be closed
}

// Parse parses the settings. It reports help and mistakes itself. The caller returns the error.
func (p *Process) Parse(set *config.Set, args []string, checks ...func() error) ([]string, error) {
	rest, err := p.parse(set, args, checks...)
	return rest, p.report(set, err)
}

// ParseAlone is Parse for a subcommand that takes no arguments. It reports unexpected ones before
// anything else.
func (p *Process) ParseAlone(set *config.Set, args []string, checks ...func() error) error {
	rest, err := p.parse(set, args, checks...)
	if len(rest) > 0 && !errors.Is(err, config.ErrUnknownFlag) {
		return p.surplus(set, rest)
	}
	return p.report(set, err)
}

func (p *Process) parse(set *config.Set, args []string, checks ...func() error) ([]string, error) {
	p.addFile(set)
	if p.declared != nil {
		p.declared(set)
		return nil, ExitError(0)
	}
	return set.Parse(args, p.Getenv, checks...)
}

// addFile lets a subcommand that shares settings read the settings file.
func (p *Process) addFile(set *config.Set) {
	if len(set.Variables()) > 0 {
		set.File(p.program.sets)
	}
}

// sets returns the settings of all subcommands. Each declares them first, and parse stops it there.
func (g Program) sets() (sets []*config.Set) {
	for _, c := range g.commands() {
		if set := g.set(c); set != nil {
			sets = append(sets, set)
		}
	}
	return sets
}

// set returns the settings of a subcommand, nil if it has none.
func (g Program) set(c Command) (set *config.Set) {
	p := &Process{program: &g, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}
	p.declared = func(declared *config.Set) { set = declared }
	_ = c.Run(context.Background(), p, nil) // parse stops it
	if set == nil || len(set.Variables()) == 0 {
		return nil
	}
	return set
}

// report shows help and mistakes in settings, and returns the error with the exit code.
func (p *Process) report(set *config.Set, err error) error {
	switch {
	case errors.Is(err, ExitError(0)):
		return err
	case errors.Is(err, config.ErrHelp):
		set.Help(p.Stdout)
		return ExitError(0)
	case err != nil:
		_, _ = fmt.Fprintf(p.Stderr, "gateway: invalid configuration:\n") // stderr may be closed
		for line := range strings.SplitSeq(err.Error(), "\n") {
			_, _ = fmt.Fprintf(p.Stderr, "  - %s\n", line)
		}
		_, _ = fmt.Fprintf(p.Stderr, "See `gateway %s --help`.\n", set.Name())
		return ErrUsage
	}
	return nil
}

// misused reports that arguments are missing, too many or unknown. The list of settings would push
// that out of sight.
func (p *Process) misused(set *config.Set, args []string) error {
	problem := "missing arguments"
	if len(args) > 0 {
		problem = fmt.Sprintf("wrong arguments: %q", args)
	}
	_, _ = fmt.Fprintf(p.Stderr, "gateway %s: %s\n\n%s\nFor its settings, see `gateway %[1]s --help`.\n", set.Name(), problem, set.Usage()) // stderr may be closed
	return ErrUsage
}

const versionUsage = `
Print the version of this program, alone on the first line. Then follow what it was built from and with.
`

func printVersion(_ context.Context, p *Process, args []string) error {
	if err := p.ParseAlone(config.New("version", versionUsage), args); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.Stdout, p.program.Build.Complete())
	return err
}

// surplus reports unexpected arguments.
func (p *Process) surplus(set *config.Set, rest []string) error {
	hint := ""
	if slices.ContainsFunc(rest, func(s string) bool { return s == "true" || s == "false" }) {
		hint = " (write the value of a switch after =, as in --compress=true)"
	}
	_, _ = fmt.Fprintf(p.Stderr, "gateway: unexpected arguments: %q%s\nSee `gateway %s --help`.\n", rest, hint, set.Name()) // stderr may be closed
	return ErrUsage
}
