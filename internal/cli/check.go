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
Secrets are never printed. Exit code 2 if there is a mistake. With --markdown, it prints a reference
of all settings instead.

By default it makes no connection. With --connect, it also tries Redis, --redis-state, the session
store, the directory and everything else that a handshake needs, with the rights of the gateway, and
says what does not answer. Exit code 1 if something does not.
`

// checkCommand checks the settings without serving.
func checkCommand(ctx context.Context, p *Process, args []string) error {
	s := &settings{Options: app.Options{Extension: p.program.Extension}}
	set := config.New("check", checkUsage)
	s.declareServe(set)
	if len(args) == 1 && args[0] == "--markdown" {
		set.Markdown(p.Stdout)
		return nil
	}
	if p.declared != nil {
		return nil // errors are those of serve
	}
	var connect bool
	set.Bool(&connect, "connect", false, "also connect to everything that the gateway needs, and report what does not answer")
	rest, err := set.Parse(args, p.Getenv, s.Check, p.checkUnknown(&s.allowUnknownEnv))
	if !errors.Is(err, config.ErrHelp) {
		set.Effective(p.Stdout) // before the mistakes, so that these stay in view
	}
	if err := p.report(set, err); err != nil || len(rest) > 0 {
		return p.Surplus(rest, err)
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
