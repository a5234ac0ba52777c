package cli

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/app"
	"orgcast/internal/bench"
	"orgcast/internal/bench/leasebench"
	"orgcast/internal/config"
	"orgcast/internal/session"
)

// benchCommand measures a gateway. It takes its defaults for Redis and sessions from the
// environment, so that it fits a gateway that was started in the same environment. Its exit codes
// are those of package bench, because a mistake in the settings must not look like a foreign
// delivery.
func benchCommand(ctx context.Context, p *Process, args []string) error {
	if len(args) > 0 && args[0] == "lease" {
		return benchLease(ctx, p, args[1:])
	}
	c, args := bench.NewCommand(args)
	set := config.New("bench", bench.Usage)
	return p.measure(set, c.Declare, args, func(s *settings) (int, error) { return s.bench(ctx, p, c) })
}

// benchLease measures how soon a gateway closes sockets whose session or membership has ended.
func benchLease(ctx context.Context, p *Process, args []string) error {
	o := leasebench.DefaultOptions()
	set := config.New("bench lease", leasebench.Usage)
	return p.measure(set, o.Declare, args, func(s *settings) (int, error) { return s.benchLease(ctx, p, o) })
}

// measure declares the settings of a measurement after those of its gateway, parses them and runs
// it.
func (p *Process) measure(set *config.Set, declare func(*config.Set), args []string, run func(*settings) (int, error)) error {
	s := new(settings)
	s.declareRedis(set)
	s.declareState(set)
	s.declareSession(set)
	declare(set)
	rest, err := p.Parse(set, args, s.CheckRedis)
	if err == nil && len(rest) > 0 {
		err = p.misused(set, rest)
	}
	if errors.Is(err, ErrUsage) {
		return ExitError(bench.ExitFailed)
	} else if err != nil {
		return err
	}
	code, err := run(s)
	if err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "gateway: %s: %v\n", set.Name(), err) // stderr may be closed
	}
	if code != bench.ExitOK {
		return ExitError(code)
	}
	return nil
}

// errNoCluster is returned because `bench lease` publishes with PUBLISH on one server, whichever
// server owns the slot.
var errNoCluster = errors.New("--redis-cluster: not supported here: the load is published at one Redis, not into a Cluster")

// bench runs the command with the gateway's settings.
func (s *settings) bench(ctx context.Context, p *Process, c *bench.Command) (int, error) {
	c.Redis, c.Prefix = s.Redis, s.Prefix
	if s.HasStore(app.StoreRedis) || s.SessionKeys != "" {
		keys, err := s.Keyspace()
		if err != nil {
			return bench.ExitFailed, err
		}
		client, err := s.ConnectState()
		if err != nil {
			return bench.ExitFailed, err
		}
		defer func() { _ = client.Close() }() // sessions have been created by then
		sessions, err := app.NewSessions(&s.Options, client, keys)
		if err != nil {
			return bench.ExitFailed, err
		}
		defer sessions.Close()
		c.Sessions = sessions
	}
	return c.Run(ctx, p.Stdin, p.Stdout, p.Stderr)
}

// benchLease runs the measurement with the gateway's settings.
func (s *settings) benchLease(ctx context.Context, p *Process, o leasebench.Options) (int, error) {
	switch {
	case len(s.Redis.Cluster)+len(s.State.Cluster) > 0:
		return bench.ExitFailed, errNoCluster
	case len(s.SessionStores) != 1 || !s.HasStore(app.StoreRedis):
		return bench.ExitFailed, errors.New("--session-store: must be redis, because users log out and switch organizations there")
	}
	keys, err := s.Keyspace()
	if err != nil {
		return bench.ExitFailed, err
	}
	clients, err := s.Connect(0)
	if err != nil {
		return bench.ExitFailed, err
	}
	defer func() { _ = clients.Close() }() // the measurement is over
	store, err := session.NewRedisStore(clients.State, keys, session.Options{Name: s.SessionCookies[0], MaxAge: s.SessionMaxAge, Insecure: s.SessionInsecure})
	if err != nil {
		return bench.ExitFailed, err
	}
	err = leasebench.Run(ctx, leasebench.Server{Events: clients.Events, State: clients.State, Keys: keys, Store: store}, o, p.Stdout)
	switch {
	case errors.Is(err, leasebench.ErrBroken):
		return bench.ExitUnfaithful, err
	case err != nil:
		return bench.ExitFailed, err
	}
	return bench.ExitOK, nil
}
