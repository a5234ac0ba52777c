package presence

import (
	"container/heap"
	"maps"
	"time"
)

// load takes the hash of a group, and the nodes that had a lease after it was read.
func (m *machine) load(g *group, h hash, alive map[string]struct{}, now time.Time) {
	g.reading = false
	m.compare(g, h[m.node])
	delete(h, m.node)
	v := g.view
	for node, s := range h {
		if _, ok := alive[node]; ok || v != nil && v.remotes[node] != nil { // survey decides about known ones
			continue
		}
		if m.sweepShare(g, node, s, now); len(s.users) == 0 {
			delete(h, node)
		}
	}
	if v == nil || !v.heard {
		m.dropIfEmpty(g)
		return
	}
	v.full = false
	if !v.loaded {
		v.loaded = true
		for user := range g.own {
			m.touch(g, user)
		}
	}
	for node, r := range v.remotes {
		if h[node] == nil {
			m.missShare(g, node, r, now)
			continue
		}
		for user := range maps.Clone(r.users) {
			if _, ok := h[node].users[user]; !ok {
				m.put(g, r, user, nil)
			}
		}
	}
	for node, s := range h {
		r := v.remotes[node]
		if r == nil {
			r = m.newRemote(g, node)
		}
		r.seq, r.missed = s.seq, time.Time{}
		for user, e := range s.users {
			if !m.enter(g, node, r, user, e, now) {
				return
			}
		}
	}
	m.showing[g] = struct{}{}
	held := v.held
	v.held = nil
	for _, d := range held {
		m.apply(g, d, now)
	}
}

// missShare notes that the share of a node is not in the hash. Perhaps Redis has lost its data and the
// node has not written it again yet, so the users are gone only if it is still missing later.
func (m *machine) missShare(g *group, node string, r *share, now time.Time) {
	switch {
	case r.missed.IsZero():
		r.missed = now
		heap.Push(&m.due, deadline{at: now.Add(confirmDeath).UnixMilli(), group: g, read: true})
	case now.Sub(r.missed) >= confirmDeath:
		m.dropRemote(g, node)
	}
}

// unloaded notes that a hash could not be read.
func (m *machine) unloaded(g *group) {
	g.reading = false
	if m.groups[g.name] == g {
		m.unread[g] = struct{}{}
	}
	m.dropIfEmpty(g)
}

// compare makes up for differences between this node's users and its share of a hash.
func (m *machine) compare(g *group, s *share) {
	if g.writing {
		m.wantRead(g) // the hash may be from before or after the write
		return
	}
	if s == nil {
		s = new(share)
	}
	for user, p := range g.own {
		if e, ok := s.users[user]; !ok || e.text() != p.text() {
			m.soil(g, user)
		}
	}
	for user := range s.users {
		if g.own[user] == nil {
			m.soil(g, user)
		}
	}
	if s.seq != g.seq { // others may not know of the last writes
		g.seq = max(g.seq, s.seq)
		for user := range g.own {
			m.soil(g, user)
		}
		m.unsaved[g] = struct{}{}
	}
}
