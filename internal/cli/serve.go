package cli

import (
	"context"

	"go.uber.org/zap"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/tracing"
)

const serveUsage = `
Run the gateway. Browsers connect to the public listener with the session cookie of the web
application; back ends publish through Redis, or with POST /v1/publish on the private listener.

The minimum, for sessions in signed cookies and memberships in Redis:

  gateway serve --redis redis://127.0.0.1:6379/0 \
    --origins https://app.example.com --session-keys-file /run/secrets/session-keys

or, with a settings file that "gateway config init" begins:

  gateway serve --config orgcast.yaml

SIGINT or SIGTERM starts a graceful shutdown; a second one ends the process at once. SIGHUP and POST
/v1/reload on the private listener read the settings file and all files that settings name again,
all or nothing; open connections stay open. docs/configuration.md marks the settings that this can
change. New certificates are found without it.
`

// serve runs the gateway until ctx ends.
func serve(ctx context.Context, p *Process, args []string) error {
	s := &settings{Options: app.Options{Extension: p.program.Extension}}
	set := config.New("serve", serveUsage)
	s.declareServe(set)
	if err := p.ParseAlone(set, args, s.Check, p.tracing(&s.Options), p.checkUnknown(&s.allowUnknownEnv)); err != nil {
		return err
	}
	s.Version = p.program.Build.Version
	log, err := p.NewLogger(&s.Options)
	if err != nil {
		return err
	}
	return app.Serve(ctx, &s.Options, p.stays(log, set, args, (*settings).declareServe, func(s *settings) error { return s.Check() }))
}

// tracing returns a check of the variables of OpenTelemetry, which stores what they say.
func (p *Process) tracing(o *app.Options) func() error {
	return func() (err error) {
		o.Tracing, err = tracing.FromEnvironment(p.Getenv)
		return err
	}
}

// stays returns the Process of a subcommand that stays. declare declares its settings, check checks
// combinations of them, and args are the arguments from which set was parsed.
func (p *Process) stays(log *zap.Logger, set *config.Set, args []string, declare func(*settings, *config.Set), check func(*settings) error) app.Process {
	current := set
	return app.Process{
		Build: p.program.Build, Getenv: p.Getenv, Log: log, Level: p.level, Journal: p.journal, Hangups: p.Hangups,
		Reread: func() (app.Reread, error) {
			next, set := &settings{Options: app.Options{Extension: p.program.Extension}}, config.New(set.Name(), "")
			declare(next, set)
			p.addFile(set)
			if _, err := set.Parse(args, p.Getenv, func() error { return check(next) }); err != nil {
				return app.Reread{}, err
			}
			changed, restart := current.Changes(set)
			if len(restart) > 0 {
				return app.Reread{}, &app.RestartError{Settings: restart}
			}
			return app.Reread{Options: &next.Options, Changed: changed, Applied: func() { current = set }}, nil
		},
	}
}

// ServeOptions returns the options of a gateway for arguments of serve, with defaults for all other
// settings.
func ServeOptions(args []string) (*app.Options, error) {
	s, set := new(settings), config.New("serve", serveUsage)
	s.declareServe(set)
	_, err := set.Parse(args, func(string) string { return "" }, s.Check)
	return &s.Options, err
}
