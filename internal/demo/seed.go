package demo

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// role is the role of every member of the demo.
const role = "member"

// Seed writes the demo's organizations and their members into the directory. Repeating it changes
// nothing. The client must have ContextTimeoutEnabled.
func Seed(ctx context.Context, client redis.Cmdable, keys keyspace.Keyspace) error {
	dir, err := directory.NewRedis(client, keys)
	if err != nil {
		return err
	}
	return seed(ctx, dir)
}

// seed writes organizations and members, whatever their current state.
func seed(ctx context.Context, dir *directory.Redis) error {
	for _, o := range Organizations() {
		id, err := orgctx.ParseID(o.ID)
		if err != nil {
			return fmt.Errorf("seed organization %q: %w", o.ID, err)
		}
		if err := dir.PutOrganization(ctx, id, directory.Active); err != nil {
			return fmt.Errorf("seed organization %s: %w", id, err)
		}
	}
	for _, p := range People() {
		org, err := p.organizationID()
		if err != nil {
			return err
		}
		if org.IsZero() {
			continue
		}
		status := directory.Active
		if p.Suspended {
			status = directory.Suspended
		}
		if err := dir.PutMember(ctx, org, p.User, status, directory.Member{Role: role}); err != nil {
			return fmt.Errorf("seed member %s: %w", p.User, err)
		}
		if p.Also == "" {
			continue
		}
		also, err := orgctx.ParseID(p.Also)
		if err != nil {
			return fmt.Errorf("organization of %s: %w", p.User, err)
		}
		if err := dir.PutMember(ctx, also, p.User, directory.Active, directory.Member{Role: role}); err != nil {
			return fmt.Errorf("seed member %s: %w", p.User, err)
		}
	}
	return nil
}
