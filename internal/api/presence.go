package api

import (
	"context"
	"net/http"

	"orgcast/internal/event"
	"orgcast/internal/presence"
)

// Presence knows who is in which group. [presence.Room] does.
type Presence interface {
	// Who returns who is present in a group on any node.
	Who(ctx context.Context, g event.Group) (presence.Snapshot, error)
}

// showingPresence returns GET /v1/presence, which back ends use, too, with the key with which they
// publish.
func showingPresence(p Presence) view {
	return view{
		path: "/v1/presence", forPublishers: true, parameters: []string{parameterOrganization, parameterGroup, parameterUser},
		refusals: []problem{
			{event.ErrInvalidGroup, http.StatusBadRequest, "invalid_group", "Send either group, with 1 to 100 characters of A-Z a-z 0-9 _ . -, or user_id, and not both."},
		},
		do: func(ctx context.Context, parameters map[string]string) (any, error) {
			g, err := groupOf(parameters)
			if err != nil {
				return nil, err
			}
			return p.Who(ctx, g)
		},
	}
}
