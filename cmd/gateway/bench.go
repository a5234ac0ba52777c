package main

import (
	"context"
	"errors"

	"orgcast/internal/bench"
	"orgcast/internal/config"
)

// benchCommand hands over to package bench. What the environment says of Redis and sessions is its
// default, so that it fits a gateway that was started from the same environment.
func benchCommand(ctx context.Context, p *process, args []string) error {
	s := new(settings)
	set := config.New("bench", "")
	s.declareRedis(set)
	s.declareState(set)
	s.declareSession(set)
	if _, err := p.parse(set, nil, s.checkRedis); err != nil {
		return err
	}
	if len(s.redis.cluster) > 0 {
		return errors.New("bench publishes at one Redis, and not into a Cluster")
	}
	options := bench.DefaultOptions()
	options.Redis, options.Prefix = s.redis.url, s.prefix
	if s.sessionStore == "redis" || s.sessionKeys != "" {
		keys, err := s.keyspace()
		if err != nil {
			return err
		}
		client, err := s.stateSettings().connect(0)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }() // sessions are minted by then
		if options.Sessions, err = newSessionStore(s, client, keys); err != nil {
			return err
		}
	}
	if code := bench.Main(ctx, args, options, p.stdout, p.stderr); code != 0 {
		return exitError(code)
	}
	return nil
}
