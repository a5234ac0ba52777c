package app

import (
	"context"
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/journal"
	"orgcast/internal/socket"
)

// Process is the environment of a long-running process.
type Process struct {
	Build  Build
	Getenv func(name string) string
	// Log writes to Journal what has Level.
	Log     *zap.Logger
	Level   zap.AtomicLevel
	Journal *journal.Writer
	// Hangups receives each SIGHUP. Reread then reads the options and their files again and checks
	// them. If settings have changed that need a restart, it returns a [RestartError].
	Hangups <-chan os.Signal
	Reread  func() (Reread, error)
}

// reloads returns the reloader of a process with these options and steps.
func (p *Process) reloads(o *Options, steps *reloadSteps, metrics prometheus.Registerer) *reloader {
	steps.add(func(next *Options) (func(), error) {
		level, err := zapcore.ParseLevel(next.LogLevel)
		return func() { p.Level.SetLevel(level) }, err
	})
	return &reloader{steps: steps, read: p.Reread, log: p.Log, metrics: newReloadMetrics(metrics), current: o}
}

// Serve runs the gateway until ctx ends, then shuts down gracefully.
func Serve(ctx context.Context, o *Options, p Process) error {
	tuneRuntime(p.Getenv)
	undo := newStack()
	// Bind first, so that a used port is reported before anything starts. The private listener is
	// one of the last to close.
	public, err := bind(ctx, "--listen", o.Listen, undo)
	if err != nil {
		return err
	}
	private, err := bind(ctx, "--admin-listen", o.AdminListen, undo)
	if err != nil {
		return errors.Join(err, undo.unwind())
	}
	n, err := newNode(ctx, o, p.Log, undo)
	if err != nil {
		return err
	}
	for _, text := range o.Warnings() {
		p.Log.Warn("configuration warning", zap.String("warning", text))
	}
	handler, err := n.public()
	if err != nil {
		return errors.Join(err, n.Close())
	}
	reloads := p.reloads(o, &n.reloads, n.Metrics)
	operators, err := n.private(private.Addr(), reloads)
	if err != nil {
		return errors.Join(err, n.Close())
	}
	server := n.Gateway.HTTPServer(handler, o.files().sockets())
	if o.TLSCert != "" {
		cert, err := newCertificate(o, &n.reloads, n.Metrics)
		if err != nil {
			return errors.Join(err, n.Close())
		}
		server.TLSConfig = cert.config()
	}
	p.Journal.Register(n.Metrics)
	newBuildInfo(n.Metrics, p.Build)
	n.Start()
	// The first listener that fails ends the process, as a signal would.
	servers, ctx := errgroup.WithContext(ctx)
	private.server, public.server = NewHTTPServer(operators, p.Log), server
	servers.Go(func() error { return Served(private.server.Serve(private)) })
	servers.Go(func() error {
		if o.TLSCert != "" {
			return Served(server.ServeTLS(socket.ListenUnderTLS(public), "", "")) // its certificate is in TLSConfig
		}
		return Served(server.Serve(socket.Lend(public)))
	})
	n.Serves(server)
	servers.Go(func() error { reloads.run(ctx, p.Hangups); return nil })
	servers.Go(func() error { reloads.watch(ctx); return nil })
	p.Log.Info("serving", zap.String("version", p.Build.Version), zap.Stringer("public", public.Addr()), zap.Stringer("private", private.Addr()), zap.Bool("tls", o.TLSCert != ""))

	<-ctx.Done()
	err = errors.Join(n.Close(), servers.Wait())
	p.Log.Info("stopped")
	return err
}
