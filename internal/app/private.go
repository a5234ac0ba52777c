package app

import (
	"errors"
	"net"
	"net/http"

	"orgcast/internal/admin"
	"orgcast/internal/api"
	"orgcast/internal/console"
	"orgcast/internal/webhook"
)

// private returns the handler of the private listener at an address.
func (n *Node) private(address net.Addr, reloads *reloader) (http.Handler, error) {
	queues, err := NewQueues(n.Redis, n.Keys)
	if err != nil {
		return nil, err
	}
	o := admin.Options{Metrics: n.Metrics, Ready: n.checks(), Console: console.Page(console.Operators)}
	publish, adminKey := api.NewKey(n.Options.PublishKey), api.NewKey(n.Options.AdminKey)
	n.reloads.add(func(next *Options) (func(), error) {
		return func() { publish.Set(next.PublishKey); adminKey.Set(next.AdminKey) }, nil
	})
	o.API = api.New(api.Options{
		PublishKey: publish, AdminKey: adminKey, Local: api.IsLoopback(address.String()),
		Publisher: n.Bus, Revoker: n.revoker, Reloader: reloads, Nodes: n.nodes, Histories: n.Bus, Presence: n.presence, Usage: n.usage, Tails: n.tails, Tasks: &taskCounts{&n.services.kinds, queues},
		Webhooks: deadLetters{webhook.NewLetters(n.Redis.Events, n.Keys)},
		Census:   n.Gateway, OrganizationMetrics: n.Options.MetricsOrganizations, Log: n.Log, Registerer: n.Metrics, Tracer: n.tracer,
	})
	return admin.New(o), nil
}

// isolated returns an error, which makes the node not ready, if an isolation violation was counted.
// The count never falls, so the node stays not ready until a restart. A fault that let one event
// get as far as the last comparison may let others through elsewhere.
func (n *Node) isolated() error {
	if n.options().OnViolation == ViolationUnready && n.Gateway.Violations() > 0 {
		return errors.New("an isolation violation was counted; see the log, then restart this node")
	}
	return nil
}

// violated logs the effect of the first isolation violation on the node.
func (n *Node) violated() {
	if n.options().OnViolation == ViolationUnready {
		n.Log.Error("isolation violation counted, not ready until a restart")
		return
	}
	n.Log.Error("isolation violation counted, staying ready (--on-violation=count)")
}
