package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// runIDs returns the IDs of the servers that a client uses.
func runIDs(ctx context.Context, client redis.UniversalClient) ([]string, error) {
	var mu sync.Mutex
	var ids []string
	ask := func(ctx context.Context, one *redis.Client) error {
		info, err := one.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		for line := range strings.Lines(info) {
			if id, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok {
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		}
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, ask)
	case *redis.Client:
		err = ask(ctx, c)
	}
	return ids, err
}

// sameServerTimeout bounds the check whether --redis and --redis-state are the same server.
const sameServerTimeout = 2 * time.Second

// sameServer is the warning if --redis-state leads to the server of --redis.
const sameServer = "--redis and --redis-state are the same server: a memory limit applies to the whole server, so when it is full it refuses writes for both"

// shared reports whether both clients use a common server. It is false for a process with one
// client.
func (c *Clients) shared(ctx context.Context) (bool, error) {
	if c.State == c.Events {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sameServerTimeout)
	defer cancel()
	events, err1 := runIDs(ctx, c.Events)
	state, err2 := runIDs(ctx, c.State)
	if err := errors.Join(err1, err2); err != nil {
		return false, err
	}
	return slices.ContainsFunc(events, func(id string) bool { return slices.Contains(state, id) }), nil
}

// compareServers returns a warning if both clients lead to one server, or if that cannot be
// checked.
func (c *Clients) compareServers(ctx context.Context) (warning string) {
	shared, err := c.shared(ctx)
	if err == nil && !shared {
		return ""
	}
	if err != nil {
		return fmt.Sprintf("Warning: --redis and --redis-state could not be compared: %v\n", err)
	}
	return "Warning: " + sameServer + "\n"
}

// warnOfSharedServer logs that warning as soon as both servers have answered.
func (n *Node) warnOfSharedServer(ctx context.Context) {
	for {
		switch shared, err := n.Redis.shared(ctx); {
		case shared:
			n.Log.Warn(sameServer)
			return
		case err == nil:
			return
		}
		select {
		case <-time.After(admissionInterval):
		case <-ctx.Done():
			return
		}
	}
}
