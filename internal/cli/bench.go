package cli

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/app"
	"orgcast/internal/bench"
	"orgcast/internal/config"
)

// benchCommand measures a gateway. What the environment says of Redis and sessions is its default, so
// that it fits a gateway that was started from the same environment. Its exit codes are those of
// package bench: a mistake in the settings must not look like a foreign delivery.
func benchCommand(ctx context.Context, p *Process, args []string) error {
	s := new(settings)
	c, args := bench.NewCommand(args)
	set := config.New("bench", bench.Usage)
	s.declareRedis(set)
	s.declareState(set)
	s.declareSession(set)
	c.Declare(set)
	rest, err := p.Parse(set, args, s.CheckRedis)
	if err == nil && len(rest) > 0 {
		err = p.misused(set, rest)
	}
	if errors.Is(err, ErrUsage) {
		return ExitError(bench.ExitFailed)
	} else if err != nil {
		return p.Surplus(nil, err)
	}
	code, err := s.bench(ctx, p, c)
	if err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "gateway: bench: %v\n", err) // stderr may be closed
		return ExitError(bench.ExitFailed)
	}
	if code != bench.ExitOK {
		return ExitError(code)
	}
	return nil
}

// bench runs the command with what the settings say of the gateway.
func (s *settings) bench(ctx context.Context, p *Process, c *bench.Command) (int, error) {
	if len(s.Redis.Cluster) > 0 {
		return bench.ExitFailed, errors.New("--redis-cluster: the load is published at one Redis, not into a Cluster")
	}
	c.Redis, c.Prefix = s.Redis.URL, s.Prefix
	if s.SessionStore == "redis" || s.SessionKeys != "" {
		keys, err := s.Keyspace()
		if err != nil {
			return bench.ExitFailed, err
		}
		client, err := s.ConnectState()
		if err != nil {
			return bench.ExitFailed, err
		}
		defer func() { _ = client.Close() }() // sessions are minted by then
		if c.Sessions, err = app.NewSessionStore(&s.Options, client, keys); err != nil {
			return bench.ExitFailed, err
		}
	}
	return c.Run(ctx, p.Stdin, p.Stdout, p.Stderr)
}
