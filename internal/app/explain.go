package app

import (
	"context"

	"orgcast/internal/explain"
	"orgcast/internal/trail"
)

// recall answers a question about the past for this node.
func (n *Node) recall(_ context.Context, q explain.Question) (trail.Answer, error) {
	query, err := q.Query()
	if err != nil {
		return trail.Answer{}, err
	}
	return n.trail.Ask(query), nil
}
