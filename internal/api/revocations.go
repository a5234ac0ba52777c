package api

import (
	"context"

	"orgcast/internal/lease"
	"orgcast/internal/nodes"
)

// RevocationsQuery asks which announcements a node has heard.
type RevocationsQuery struct{}

// Check returns nil.
func (RevocationsQuery) Check() error { return nil }

// Revocations is the topic of GET /v1/revocations.
func Revocations() nodes.Topic[RevocationsQuery, []lease.Announcement] {
	return nodes.Topic[RevocationsQuery, []lease.Announcement]{Name: "revocations"}
}

// showRevocations returns the body of GET /v1/revocations.
func showRevocations(ctx context.Context, n *nodes.Nodes) (any, error) {
	replies, err := nodes.Ask(ctx, n, Revocations(), RevocationsQuery{})
	if err != nil {
		return nil, err
	}
	heard := make([][]lease.Announcement, 0, len(replies.Each))
	states := make([]nodeState, 0, len(replies.Each))
	for _, reply := range replies.Each {
		heard = append(heard, reply.Answer)
		states = append(states, nodeState{reply.Node, reply.State})
	}
	return map[string]any{"revocations": notNull(lease.MergeAnnouncements(heard)), "complete": replies.Complete, "nodes": states}, nil
}
