package cli

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"orgcast/internal/config"
	"orgcast/internal/routefile"
)

const configUsage = `
Work with the settings file of --config, which "serve", "worker" and the other subcommands read:

  gateway config init                            prints a commented file to begin with
  gateway config show [SUBCOMMAND] [SETTINGS]    prints the effective settings of a subcommand (default:
                                                 serve), and where each comes from: flag, environment,
                                                 FILE:LINE or default. Secrets are never printed
  gateway config docs [SUBCOMMAND]               prints a reference of the settings as Markdown
  gateway config schema                          prints the JSON Schema of the settings file, with which
                                                 editors complete the file and mark mistakes
  gateway config schema routes                   prints the JSON Schema of --routes-file

To begin:

  gateway config init > orgcast.yaml
  gateway check --config orgcast.yaml
`

// initial is the file to begin with. It works for development, without a secret.
//
//go:embed orgcast.yaml
var initial string

// configCommand helps with settings files.
func configCommand(_ context.Context, p *Process, args []string) error {
	set := config.New("config", configUsage)
	verb, rest := "", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, rest = args[0], args[1:]
	}
	switch {
	case verb == "show":
		return p.showConfig(set, rest)
	case verb == "docs" && len(rest) < 2:
		about, rest := p.settingsOf(rest)
		if about != nil && len(rest) == 0 {
			about.Markdown(p.Stdout)
			return nil
		}
	case verb == "init" && len(rest) == 0:
		_, err := fmt.Fprint(p.Stdout, initial)
		return err
	case verb == "schema" && len(rest) == 0:
		schema, err := config.Schema(p.program.sets()...)
		if err == nil {
			_, err = fmt.Fprintf(p.Stdout, "%s\n", schema)
		}
		return err
	case verb == "schema" && len(rest) == 1 && rest[0] == "routes":
		_, err := fmt.Fprint(p.Stdout, routefile.Schema())
		return err
	}
	if rest, err := p.Parse(set, args); err != nil { // it asks for help, or has unknown flags
		return err
	} else if len(rest) > 0 {
		return p.misused(set, rest)
	}
	return p.misused(set, nil)
}

// settingsOf returns the settings of the subcommand that the first argument names, and the other
// arguments. Without a name, they are those of serve. It returns nil if the subcommand has none.
func (p *Process) settingsOf(args []string) (*config.Set, []string) {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	for _, c := range p.program.commands() {
		if c.Name == name {
			return p.program.set(c), args
		}
	}
	return nil, args
}

// showConfig prints the effective settings of a subcommand, then the mistakes in them.
func (p *Process) showConfig(set *config.Set, args []string) error {
	about, flags := p.settingsOf(args)
	if about == nil {
		return p.misused(set, append([]string{"show"}, args...))
	}
	rest, err := about.Parse(flags, p.Getenv)
	switch {
	case errors.Is(err, config.ErrHelp):
		return p.report(set, err)
	case len(rest) > 0 && !errors.Is(err, config.ErrUnknownFlag):
		return p.surplus(set, rest)
	}
	about.Effective(p.Stdout)
	return p.report(about, err)
}
