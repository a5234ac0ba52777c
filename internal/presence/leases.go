package presence

import (
	"maps"
	"time"
)

// sweep are fields that a node without a lease has left in a hash.
type sweep struct {
	group *group
	node  string
	seq   uint64 // the node's last write; after another one, the fields stay
	users []string
	all   bool // no other field of the node is left
}

// sweepShare removes from a share, and later from its hash, the users that the node cannot answer
// for anymore. Those that may come back stay until their time is over.
func (m *machine) sweepShare(g *group, node string, s *share, now time.Time) {
	gone := sweep{group: g, node: node, seq: s.seq}
	for user, e := range s.users {
		if !e.lingers() || e.Until <= now.UnixMilli() {
			gone.users = append(gone.users, user)
			delete(s.users, user)
		}
	}
	if gone.all = len(s.users) == 0; len(gone.users) > 0 || gone.all {
		m.sweeps = append(m.sweeps, gone)
	}
}

const (
	// confirmDeath is how long a node has to be without a lease until its users are gone. It is
	// longer than the pause between two renewals, because all leases end at once if Redis loses its
	// data or hangs.
	confirmDeath = 2500 * time.Millisecond
	// surveyGap is the pause between two surveys after which nodes have that time again.
	surveyGap = 2 * time.Second
)

// survey takes the nodes that had a lease at a moment. The users of others are gone, if they had
// none for some time.
func (m *machine) survey(alive map[string]struct{}, asked time.Time) {
	if asked.Sub(m.surveyed) > surveyGap {
		clear(m.missing)
	}
	m.alive, m.surveyed = alive, asked
	for node := range m.missing {
		if _, ok := alive[node]; ok || m.nodes[node] == nil {
			delete(m.missing, node)
		}
	}
	for node, groups := range m.nodes {
		if _, ok := alive[node]; ok {
			continue
		}
		since, known := m.missing[node]
		if !known {
			since, m.missing[node] = asked, asked
		}
		if asked.Sub(since) < confirmDeath {
			continue
		}
		for g := range groups {
			m.bury(g, node, asked)
		}
	}
}

// bury removes the users of a node without a lease from a view, except those who may come back.
func (m *machine) bury(g *group, node string, now time.Time) {
	r := g.view.remotes[node]
	left := share{seq: r.seq, users: maps.Clone(r.users)}
	m.sweepShare(g, node, &left, now)
	for user := range maps.Clone(r.users) {
		if _, ok := left.users[user]; !ok {
			m.put(g, r, user, nil)
		}
	}
	if len(r.users) == 0 {
		m.dropRemote(g, node)
	}
}

// expireRemote ends a user of another node who did not come back. A node that is alive says so
// itself.
func (m *machine) expireRemote(g *group, d deadline) {
	if _, ok := m.alive[d.node]; ok || g.view == nil {
		return
	}
	r := g.view.remotes[d.node]
	if r == nil || r.users[d.user].Until != d.at {
		return
	}
	m.put(g, r, d.user, nil)
	gone := sweep{group: g, node: d.node, seq: r.seq, users: []string{d.user}, all: len(r.users) == 0}
	m.sweeps = append(m.sweeps, gone)
	if gone.all {
		m.dropRemote(g, d.node)
	}
}
