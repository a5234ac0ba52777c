package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

var (
	// ErrUnknownTool is returned for a name without a tool.
	ErrUnknownTool = errors.New("task: no such tool")
	// ErrNotJSON is returned if the input or output of a tool is not JSON.
	ErrNotJSON = errors.New("task: not JSON")
)

// Tool is a function that handlers and agents call by name. Its context carries the organization
// and the user who requested the work, if any. The store reaches that organization's keys only.
type Tool func(ctx context.Context, store *Store, input json.RawMessage) (json.RawMessage, error)

// Tools holds the tools of a process by name. It is safe for concurrent use.
type Tools struct {
	client redis.Cmdable
	keys   keyspace.Keyspace
	dir    Directory
	byName map[string]Tool
}

// Directory says for which users tools may run. Package directory implements it.
type Directory interface {
	orgctx.Directory
	// Admit returns nil if the organization is active and the user is an active member.
	Admit(ctx context.Context, org orgctx.ID, userID string) (directory.Member, error)
}

// NewTools returns the tools in the map, which must not be changed afterwards.
func NewTools(client redis.Cmdable, keys keyspace.Keyspace, dir Directory, byName map[string]Tool) *Tools {
	return &Tools{client: client, keys: keys, dir: dir, byName: byName}
}

// RunTool runs a tool for the context's organization and user. It asks the directory each time
// whether the organization is active and, if a user asked for the work, whether that user is a
// member. If not, the error wraps the directory's. Without an organization it is
// [orgctx.ErrNoOrganization]. An error of the tool comes back unchanged; a panic comes back as an
// error that wraps [ErrPanic].
func (t *Tools) RunTool(ctx context.Context, name string, input json.RawMessage) (output json.RawMessage, err error) {
	store, err := NewStore(ctx, t.client, t.keys)
	if err != nil {
		return nil, err
	}
	if err := t.admit(ctx, store.org); err != nil {
		return nil, fmt.Errorf("run tool %s: %w", name, err)
	}
	tool, ok := t.byName[name]
	if !ok {
		return nil, ErrUnknownTool
	}
	if !json.Valid(input) {
		return nil, fmt.Errorf("input of tool %s: %w", name, ErrNotJSON)
	}
	err = guard(func() error {
		output, err = tool(ctx, store, input)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !json.Valid(output) {
		return nil, fmt.Errorf("output of tool %s: %w", name, ErrNotJSON)
	}
	return output, nil
}

// admit asks whether tools may run for the context's user, or for the organization if there is
// none.
func (t *Tools) admit(ctx context.Context, org orgctx.ID) error {
	user, ok := orgctx.UserFrom(ctx)
	if !ok {
		return t.dir.OrganizationActive(ctx, org)
	}
	_, err := t.dir.Admit(ctx, org, string(user))
	return err
}

type toolsKey struct{}

// WithTools returns a context in which [RunTool] finds the tools.
func WithTools(ctx context.Context, t *Tools) context.Context {
	return context.WithValue(ctx, toolsKey{}, t)
}

// RunTool calls [Tools.RunTool] on the tools that the context carries. A [Worker] puts its own
// there.
func RunTool(ctx context.Context, name string, input json.RawMessage) (json.RawMessage, error) {
	if _, ok := orgctx.From(ctx); !ok {
		return nil, orgctx.ErrNoOrganization
	}
	t, _ := ctx.Value(toolsKey{}).(*Tools)
	if t == nil {
		return nil, ErrUnknownTool
	}
	return t.RunTool(ctx, name, input)
}
