package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/config"
)

const serveUsage = `
Run the gateway. Browsers connect to the public listener with the session cookie of the web
application; back ends publish through Redis, or with POST /v1/publish on the private listener.

The least that it needs, for sessions in signed cookies and membership in Redis:

  gateway serve --redis redis://127.0.0.1:6379/0 \
    --origins https://app.example.com --session-keys-file /run/secrets/session-keys

SIGINT or SIGTERM begins a goodbye in order; a second one ends the process at once. SIGHUP reads the
files of certificates, keys and passwords again; open connections stay.
`

// serve runs the gateway until ctx ends, then says goodbye.
func serve(ctx context.Context, p *process, args []string) error {
	s := &settings{moreRoutes: p.moreRoutes}
	set := config.New("serve", serveUsage)
	s.declareServe(set)
	if rest, err := p.parse(set, args, s.checkServe, p.checkUnknown(&s.allowUnknownEnv)); err != nil || len(rest) > 0 {
		return p.surplus(rest, err)
	}
	log, err := newLogger(s, p.journal)
	if err != nil {
		return err
	}

	tuneRuntime(p.getenv)
	// Bind first: a port in use is found out before anything has begun.
	public, err := listen(ctx, "--listen", s.listen)
	if err != nil {
		return err
	}
	private, err := listen(ctx, "--admin-listen", s.adminListen)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	n, err := newNode(ctx, s, log)
	if err != nil {
		return errors.Join(err, public.Close(), private.Close())
	}
	files := s.files()
	for _, text := range s.warnings(files) {
		log.Warn("settings", zap.String("warning", text))
	}
	publicServer, privateServer := n.gateway.HTTPServer(n.public(), files.sockets()), newHTTPServer(n.admin(), log)
	if s.tlsCert != "" {
		cert, err := newCertificate(s)
		if err != nil {
			return errors.Join(err, n.close(), public.Close(), private.Close())
		}
		publicServer.TLSConfig = cert.config()
	}
	p.journal.Register(n.metrics)
	reloads := p.newReloader(s, args, log, n.metrics, (*settings).declareServe, (*settings).checkServe)
	n.start(ctx)
	// The first listener that fails ends the process as a signal would.
	servers, ctx := errgroup.WithContext(ctx)
	servers.Go(func() error { return served(privateServer.Serve(private)) })
	servers.Go(func() error {
		if s.tlsCert != "" {
			return served(publicServer.ServeTLS(public, "", "")) // its certificate is in TLSConfig
		}
		return served(publicServer.Serve(public))
	})
	servers.Go(func() error { reloads.run(ctx, p.hangups); return nil })
	log.Info("serving", zap.String("version", version), zap.Stringer("public", public.Addr()), zap.Stringer("private", private.Addr()), zap.Bool("tls", s.tlsCert != ""))

	<-ctx.Done()
	err = n.stop(publicServer)
	err = errors.Join(err, privateServer.Close(), servers.Wait())
	log.Info("gone")
	return err
}

// served passes on why a listener ended, unless that was on purpose.
func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// surplus reports arguments that nobody reads.
func (p *process) surplus(rest []string, err error) error {
	if err != nil {
		if errors.Is(err, exitError(0)) {
			return nil
		}
		return err
	}
	_, _ = fmt.Fprintf(p.stderr, "gateway: arguments that are not understood: %q\n", rest) // stderr may be closed
	return errUsage
}

const checkUsage = `
Report every mistake in the settings of serve, then the effective settings and where each comes
from. Secrets are never printed. Exit code 2 if there is a mistake. With --markdown, print the
reference of all settings instead.

It makes no connection, unless you ask for that: with --connect it also tries Redis, --redis-state,
the session store, the directory and whatever else a handshake asks, with the rights of the gateway,
and says what does not answer. Exit code 1 if something does not.
`

// checkCommand looks at the settings without serving.
func checkCommand(ctx context.Context, p *process, args []string) error {
	s := new(settings)
	set := config.New("check", checkUsage)
	s.declareServe(set)
	if len(args) == 1 && args[0] == "--markdown" {
		set.Markdown(p.stdout)
		return nil
	}
	if p.declared != nil {
		return nil // they are those of serve
	}
	var connect bool
	set.Bool(&connect, "connect", false, "also connect to everything that the gateway needs, and report what does not answer")
	rest, err := set.Parse(args, p.getenv, s.checkServe, p.checkUnknown(&s.allowUnknownEnv))
	if !errors.Is(err, config.ErrHelp) {
		set.Effective(p.stdout) // before the mistakes, so that these do not scroll out of view
	}
	if err := p.report(set, err); err != nil || len(rest) > 0 {
		return p.surplus(rest, err)
	}
	for _, text := range s.warnings(s.files()) {
		_, _ = fmt.Fprintln(p.stdout, "\nWarning:", text) // best effort: stdout is a terminal
	}
	if _, err := fmt.Fprint(p.stdout, "\nNo mistakes found.\n"); err != nil || !connect {
		return err
	}
	return p.checkConnections(ctx, s)
}
