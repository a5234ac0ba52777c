package cli

import (
	"context"

	"go.uber.org/zap"

	"orgcast/internal/app"
	"orgcast/internal/config"
)

const serveUsage = `
Run the gateway. Browsers connect to the public listener with the session cookie of the web
application; back ends publish through Redis, or with POST /v1/publish on the private listener.

The minimum, for sessions in signed cookies and memberships in Redis:

  gateway serve --redis redis://127.0.0.1:6379/0 \
    --origins https://app.example.com --session-keys-file /run/secrets/session-keys

SIGINT or SIGTERM starts a graceful shutdown; a second one ends the process at once. SIGHUP reloads
certificates, keys, passwords and routes from their files; open connections stay open.
`

// serve runs the gateway until ctx ends.
func serve(ctx context.Context, p *Process, args []string) error {
	s := &settings{Options: app.Options{Extension: p.program.Extension}}
	set := config.New("serve", serveUsage)
	s.declareServe(set)
	if rest, err := p.Parse(set, args, s.Check, p.checkUnknown(&s.allowUnknownEnv)); err != nil || len(rest) > 0 {
		return p.Surplus(rest, err)
	}
	s.Version = p.program.Version
	log, err := p.NewLogger(&s.Options)
	if err != nil {
		return err
	}
	return app.Serve(ctx, &s.Options, p.stays(log, args, (*settings).declareServe, func(s *settings) error { return s.Check() }))
}

// stays returns the Process of a subcommand that stays. declare declares its settings, check checks
// combinations of them, and args are the arguments from which they were parsed.
func (p *Process) stays(log *zap.Logger, args []string, declare func(*settings, *config.Set), check func(*settings) error) app.Process {
	return app.Process{
		Version: p.program.Version, Getenv: p.Getenv, Log: log, Journal: p.journal, Hangups: p.Hangups,
		Reread: func() (*app.Options, error) {
			next, set := &settings{Options: app.Options{Extension: p.program.Extension}}, config.New("reload", "")
			declare(next, set)
			_, err := set.Parse(args, p.Getenv, func() error { return check(next) })
			return &next.Options, err
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
