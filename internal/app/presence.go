package app

import (
	"context"

	"orgcast/internal/nodes"
	"orgcast/internal/presence"
)

// addPresence creates the parts that know the other nodes, and the users in groups on all of them.
func (n *Node) addPresence(context.Context) error {
	n.nodes = nodes.New(n.Redis.Events, n.Keys, nodes.Options{Version: n.Options.Version, Log: n.Log, Registerer: n.Metrics})
	n.presence = presence.New(n.Redis.Events, n.Keys, n.nodes, presence.Options{
		BytesPerOrganization: n.Options.PresenceBytesPerOrganization, Log: n.Log, Registerer: n.Metrics,
	})
	// After the connections have ended, and before the lease of this node does.
	n.undo.add("presence", undoTimeout, n.presence.Close)
	return nil
}
