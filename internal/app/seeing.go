package app

import (
	"context"
	"errors"
	"slices"

	"orgcast/internal/admin"
	"orgcast/internal/api"
	"orgcast/internal/inventory"
	"orgcast/internal/lease"
	"orgcast/internal/nodes"
	"orgcast/internal/usage"
)

// addNodes answers questions of other nodes for this one.
func (n *Node) addNodes(context.Context) error {
	nodes.Answer(n.nodes, api.Load(), n.load)
	nodes.Answer(n.nodes, api.Trails(), n.recall)
	nodes.Answer(n.nodes, api.Revocations(), func(context.Context, api.RevocationsQuery) ([]lease.Announcement, error) {
		return n.control.Announcements(), nil
	})
	nodes.Answer(n.nodes, api.Organizations(), answering(n.Gateway.ReportOrganizations))
	nodes.Answer(n.nodes, api.Groups(), answering(n.Gateway.ReportGroups))
	nodes.Answer(n.nodes, api.Connections(), answering(func(q inventory.Query) (inventory.Page[inventory.Connection], error) {
		page, err := n.Gateway.ReportConnections(q)
		for i := range page.Rows {
			page.Rows[i].Node = n.nodes.Self().ID
		}
		return page, err
	}))
	n.addUsage()
	return nil
}

// addUsage creates the part that measures what organizations use, and keeps it if that is wanted.
func (n *Node) addUsage() {
	o := usage.Options{Meter: n.Gateway, Node: n.nodes.Self().ID, Log: n.Log}
	if n.Options.UsageRetention > 0 {
		n.usage = usage.NewRedis(n.Redis.Events, n.Keys, n.Options.UsageRetention)
		o.Store = n.usage
	}
	n.recorder = usage.NewRecorder(o)
}

// answering is a report of the gateway as an answer to a question.
func answering[A any](report func(q inventory.Query) (A, error)) func(context.Context, inventory.Query) (A, error) {
	return func(_ context.Context, q inventory.Query) (A, error) { return report(q) }
}

// load returns what this node has to carry.
func (n *Node) load(ctx context.Context, _ inventory.LoadQuery) (inventory.Load, error) {
	l := inventory.Load{Connections: n.Gateway.Connections(), Organizations: n.Gateway.Organizations(), Groups: n.hub.Groups()}
	for name, check := range n.checks() {
		if check(ctx) != nil {
			l.NotReady = append(l.NotReady, name)
		}
	}
	slices.Sort(l.NotReady)
	l.Ready = len(l.NotReady) == 0
	return l, nil
}

// checks returns the checks of readiness.
func (n *Node) checks() map[string]admin.Check {
	checks := map[string]admin.Check{
		"events":        func(context.Context) error { return n.Bus.Healthy() },
		admissionReport: func(context.Context) error { return n.admission.healthy() },
		"isolation":     func(context.Context) error { return n.isolated() },
		"drain": func(context.Context) error {
			if n.stopping.Load() {
				return errors.New("this node is draining")
			}
			return nil
		},
	}
	if n.layer != nil {
		checks["channel_layer"] = func(context.Context) error { return n.layer.Healthy() }
	}
	return checks
}
