package presence

import (
	"container/heap"
	"time"
)

// view is what a node knows of a group that a member here watches.
type view struct {
	remotes map[string]*share // the other nodes with users in the group
	loaded  bool              // the hash was read, or there is none
	heard   bool              // the channel is subscribed
	full    bool              // there was no room for the users
	refused bool              // the watchers were told so
	bytes   int               // charged for it, remotes and shown
	// held are messages that came while the hash was being read.
	held []diff

	watchers int
	fresh    int                 // watchers that have no list yet
	touched  map[string]struct{} // users who may look different from what is shown
	shown    map[string]shown    // all users, as the watchers know them
	listed   bool                // the watchers were told users, and not only their number
	size     int                 // of the list, in bytes, estimated
	told     int                 // the number that the watchers were told
	toldAt   time.Time
}

// shown is what watchers know of a user. Since may change without notice.
type shown struct {
	connections int
	since       int64
	state       string
}

// maxHeld bounds the messages that wait for a hash. If there are more, it is read again.
const maxHeld = 64

// watch makes a seat watch its group.
func (m *machine) watch(g *group, s *seat) {
	if g.view == nil {
		g.view = &view{remotes: make(map[string]*share), touched: make(map[string]struct{}), shown: make(map[string]shown), loaded: m.alone, listed: true, bytes: viewBytes}
		for user := range g.own {
			m.touch(g, user)
		}
		if !m.alone {
			m.rewanted[g.name] = struct{}{}
		}
	}
	if !s.watching {
		s.watching = true
		g.view.watchers++
	}
	if !s.fresh {
		s.fresh = true
		g.view.fresh++
	}
	m.showing[g] = struct{}{}
}

// unwatch takes the place of a watching seat, which has gone, from the view.
func (m *machine) unwatch(g *group, s *seat) {
	v := g.view
	if s.fresh {
		v.fresh--
	}
	if v.watchers--; v.watchers > 0 {
		return
	}
	for node := range v.remotes {
		m.forgetNode(g, node)
	}
	m.refund(g.org, v.bytes)
	g.view = nil
	delete(m.showing, g)
	if !m.alone {
		m.rewanted[g.name] = struct{}{}
	}
}

// watched reports whether the channel of a group is wanted.
func (m *machine) watched(g *group) bool { return g != nil && g.view != nil }

// touch notes that a user may look different now. A user who is not there and was not shown leaves
// nothing behind: it may take long until the next frames, and names are not charged for twice.
func (m *machine) touch(g *group, user string) {
	v := g.view
	if v == nil || !v.loaded { // load touches all
		return
	}
	if _, was := v.shown[user]; !was && !g.knows(user) {
		delete(v.touched, user)
		return
	}
	v.touched[user] = struct{}{}
	m.showing[g] = struct{}{}
}

// knows reports whether a user of this node or of another one is there.
func (g *group) knows(user string) bool {
	if g.own[user] != nil {
		return true
	}
	for _, r := range g.view.remotes {
		if _, ok := r.users[user]; ok {
			return true
		}
	}
	return false
}

// merged returns how a user looks, as all nodes together say.
func (m *machine) merged(g *group, user string) (s shown, present bool) {
	var setAt int64
	add := func(e entry) {
		if !present || e.Since < s.since {
			s.since = e.Since
		}
		if e.SetAt > setAt || e.SetAt == setAt && string(e.State) > s.state {
			s.state, setAt = string(e.State), e.SetAt
		}
		if !e.lingers() {
			s.connections += e.Connections
		}
		present = true
	}
	if p := g.own[user]; p != nil {
		add(p.entry)
	}
	for _, r := range g.view.remotes {
		if e, ok := r.users[user]; ok {
			add(e)
		}
	}
	s.connections = max(s.connections, 1)
	return s, present
}

// adopt takes over for a user of this node what other nodes say about the user: since when, and the
// newest state, which would otherwise end with the other connection.
func (m *machine) adopt(g *group, user string) {
	p := g.own[user]
	for _, r := range g.view.remotes {
		e, ok := r.users[user]
		if !ok {
			continue
		}
		if e.Since < p.Since {
			p.Since = e.Since
			m.changed(g, user)
		}
		if e.SetAt > p.SetAt && m.charge(g.org, len(e.State)) {
			m.refund(g.org, len(p.State))
			p.State, p.SetAt = e.State, e.SetAt
			m.changed(g, user)
		}
	}
}

// confirmed notes that the channel of a group is heard, so that its hash can be read.
func (m *machine) confirmed(g *group) {
	if g != nil && g.view != nil {
		g.view.heard = true
		m.wantRead(g)
	}
}

// lost notes that no channel is heard anymore. What is known stays, until the channels are heard
// again.
func (m *machine) lost() {
	for _, g := range m.groups {
		if g.view != nil {
			g.view.heard, g.view.held = false, nil
		}
	}
}

// receive takes a message of another node.
func (m *machine) receive(g *group, d diff, now time.Time) {
	if g == nil || g.view == nil || !g.view.heard || g.view.full || d.Node == m.node {
		return
	}
	if v := g.view; g.reading || !v.loaded {
		if v.held = append(v.held, d); len(v.held) > maxHeld {
			v.held = nil
			m.wantRead(g)
		}
		return
	}
	m.apply(g, d, now)
}

// apply applies a message, unless it is older than what is known. After a hole, the hash is read.
func (m *machine) apply(g *group, d diff, now time.Time) {
	v := g.view
	r := v.remotes[d.Node]
	var known uint64
	if r != nil {
		known = r.seq
	}
	switch {
	case v.full || d.Seq <= known:
		return
	case d.Prev != known:
		m.wantRead(g)
		return
	case r == nil:
		r = m.newRemote(g, d.Node)
	}
	r.seq, r.missed = d.Seq, time.Time{}
	for _, user := range d.Gone {
		m.put(g, r, user, nil)
	}
	for user, e := range d.Set {
		if !m.enter(g, d.Node, r, user, e, now) {
			return
		}
	}
	if d.Last {
		m.dropRemote(g, d.Node)
	}
}

// enter puts an entry of another node into the view. It reports whether there was room.
func (m *machine) enter(g *group, node string, r *share, user string, e entry, now time.Time) bool {
	if e.lingers() { // by another clock
		e.Until = min(max(e.Until, now.UnixMilli()), now.Add(m.grace).UnixMilli())
		heap.Push(&m.due, deadline{at: e.Until, group: g, user: user, node: node})
	}
	if !m.put(g, r, user, &e) {
		m.overflow(g)
		return false
	}
	if g.own[user] != nil {
		m.adopt(g, user)
	}
	return true
}

// put sets or removes what a node says of a user, and reports whether there was room.
func (m *machine) put(g *group, r *share, user string, e *entry) bool {
	bytes := 0
	if old, ok := r.users[user]; ok {
		bytes -= entryBytes + len(user) + len(old.State)
	}
	if e != nil {
		bytes += entryBytes + len(user) + len(e.State)
	}
	if !m.charge(g.org, bytes) {
		return false
	}
	g.view.bytes += bytes
	if e == nil {
		delete(r.users, user)
	} else {
		r.users[user] = *e
	}
	m.touch(g, user)
	return true
}

// overflow forgets the users of other nodes, for which there is no room. The watchers are told, and
// the hash is read again after a while.
func (m *machine) overflow(g *group) {
	v := g.view
	for node := range v.remotes {
		m.forgetNode(g, node)
	}
	m.refund(g.org, v.bytes-viewBytes)
	v.remotes, v.shown, v.touched = make(map[string]*share), make(map[string]shown), make(map[string]struct{})
	v.bytes, v.size, v.full, v.loaded, v.held = viewBytes, 0, true, false, nil
	m.showing[g] = struct{}{}
}

func (m *machine) newRemote(g *group, node string) *share {
	r := &share{users: make(map[string]entry)}
	g.view.remotes[node] = r
	if m.nodes[node] == nil {
		m.nodes[node] = make(map[*group]struct{})
	}
	m.nodes[node][g] = struct{}{}
	return r
}

// dropRemote forgets a node and its users in a group.
func (m *machine) dropRemote(g *group, node string) {
	r := g.view.remotes[node]
	for user := range r.users {
		m.put(g, r, user, nil)
	}
	delete(g.view.remotes, node)
	m.forgetNode(g, node)
}

// forgetNode takes a group off the index of a node.
func (m *machine) forgetNode(g *group, node string) {
	delete(m.nodes[node], g)
	if len(m.nodes[node]) == 0 {
		delete(m.nodes, node)
	}
}
