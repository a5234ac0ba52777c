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
	// surveyGap is the most of the time between two surveys that counts for that: this node or Redis was
	// slow. If Redis did not answer meanwhile, it may have hung, and the other nodes could not renew
	// their leases either: then hungGap counts, so that nodes have their time again, but a Redis that
	// often does not answer keeps nobody present for good.
	surveyGap = 2 * time.Second
	hungGap   = confirmDeath / 10
)

// survey takes the nodes that had a lease at a moment. The users of others are gone, if they had
// none for some time.
func (m *machine) survey(alive map[string]struct{}, asked time.Time) {
	passed := asked.Sub(m.surveyed)
	switch {
	case passed <= surveyGap:
	case m.unanswered:
		passed = hungGap
	default:
		passed = surveyGap
	}
	m.alive, m.surveyed, m.unanswered = alive, asked, false
	for node := range m.missing {
		if _, ok := alive[node]; ok || m.nodes[node] == nil {
			delete(m.missing, node)
		}
	}
	for node, groups := range m.nodes {
		if _, ok := alive[node]; ok {
			continue
		}
		if missing, known := m.missing[node]; known {
			m.missing[node] = missing + passed
		} else {
			m.missing[node] = 0
		}
		if m.missing[node] < confirmDeath {
			continue
		}
		for g := range groups {
			m.bury(g, node, asked)
		}
	}
}

// unsurveyed notes that Redis did not say which nodes have a lease.
func (m *machine) unsurveyed() { m.unanswered = true }

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
