package app

import (
	"context"

	"orgcast/internal/api"
	"orgcast/internal/inventory"
	"orgcast/internal/nodes"
	"orgcast/internal/orgctx"
	"orgcast/internal/tail"
)

// addTails creates the part that shows events as they pass.
func (n *Node) addTails(context.Context) error {
	n.tails = tail.New(n.Redis.Events, n.Keys, tail.Options{
		Groups: n.groupsAnywhere, MaxEventSize: func() int { return n.options().busLimits().MaxEventSize }, Log: n.Log,
	})
	return nil
}

// groupsAnywhere returns the groups of an organization that have members on any node.
func (n *Node) groupsAnywhere(ctx context.Context, org orgctx.ID, limit int) (names []string, more bool, err error) {
	q := inventory.Query{Organization: org.String(), Limit: min(limit, inventory.MaxLimit)}
	replies, err := nodes.Ask(ctx, n.nodes, api.Groups(), q)
	if err != nil {
		return nil, false, err
	}
	var pages []inventory.Page[inventory.Group]
	for _, reply := range replies.Each {
		pages = append(pages, reply.Answer)
	}
	merged := inventory.Merge(q, pages)
	for _, g := range merged.Rows {
		names = append(names, g.Name)
	}
	return names, merged.More, nil
}
