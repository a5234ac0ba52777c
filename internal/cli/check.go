package cli

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/app"
	"orgcast/internal/config"
)

const checkUsage = `
Check the settings of serve. Prints the effective settings, where each comes from, what each route of
--routes-file allows, and every mistake.
Secrets are never printed. Exit code 2 if there is a mistake.

By default it makes no connection. With --connect, it also tries Redis, --redis-state, the session
store, the directory, the hooks of --routes-file, everything else that a handshake needs, and the
rights of the Redis user. It says what is missing and what to do, and changes nothing. Exit code 1 if
something does not answer or a right is missing.

"gateway config show" prints the effective settings alone, also of other subcommands, and
"gateway config docs" a reference of all settings.
`

// checkCommand checks the settings without serving.
func checkCommand(ctx context.Context, p *Process, args []string) error {
	s := &settings{Options: app.Options{Extension: p.program.Extension}}
	set := config.New("check", checkUsage)
	s.declareServe(set)
	set.FlagsOnly()
	var connect bool
	set.Bool(&connect, "connect", false, "also connect to everything that the gateway needs, and report what does not answer")
	rest, err := p.parse(set, args, s.Check, p.tracing(&s.Options), p.checkUnknown(&s.allowUnknownEnv))
	if len(rest) > 0 && !errors.Is(err, config.ErrUnknownFlag) {
		return p.surplus(set, rest)
	}
	if errors.Is(err, ExitError(0)) {
		return err
	}
	if !errors.Is(err, config.ErrHelp) {
		set.Effective(p.Stdout) // before the mistakes, so that these stay in view
	}
	if err := p.report(set, err); err != nil {
		return err
	}
	if err := s.DescribeRoutes(p.Stdout); err != nil {
		return err
	}
	for _, text := range s.Warnings() {
		_, _ = fmt.Fprintln(p.Stdout, "\nWarning:", text) // best effort: stdout is a terminal
	}
	if _, err := fmt.Fprint(p.Stdout, "\nNo mistakes found.\n"); err != nil || !connect {
		return err
	}
	return app.CheckConnections(ctx, &s.Options, p.Stdout)
}
