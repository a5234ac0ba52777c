package presence

import (
	"container/heap"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// machine decides who is present, what is shown to whom, and what is written. It has no lock, no
// clock and no I/O: every method gets the time, and what is to be done is returned by tick, writes,
// reads and audits.
type machine struct {
	// Fixed after construction.
	node       string
	alone      bool // there are no other nodes, and nothing is written
	mostListed int

	grace                time.Duration // [Grace]
	bytesPerOrganization int
	groups               map[event.Group]*group
	orgs                 map[orgctx.ID]*org
	due                  deadlines
	seq                  uint64                         // of the last write
	showing              map[*group]struct{}            // something may have to be shown
	unsaved              map[*group]struct{}            // something has to be written
	unread               map[*group]struct{}            // the hash has to be read
	auditing             map[*group]struct{}            // what is written has to be compared
	rewanted             map[event.Group]struct{}       // watched or not, unlike before
	nodes                map[string]map[*group]struct{} // in whose views a node is
	alive                map[string]struct{}            // the nodes that had a lease when last asked
	surveyed             time.Time                      // when
	unanswered           bool                           // they were asked for since, in vain
	missing              map[string]time.Duration       // for how long other nodes in views have had none
	sweeps               []sweep                        // fields of dead nodes
}

// org is what an organization uses.
type org struct {
	bytes  int
	groups int
	ready  time.Time // when its connections may get the next frames
}

// group is one group that has members here.
type group struct {
	name    event.Group
	org     *org
	members map[Member]*seat
	own     map[string]*person // users of this node, those included that may come back
	view    *view              // nil unless a member watches
	charged bool               // to the organization

	dirty   map[string]struct{} // users whose field has to be written
	seq     uint64              // of the last write, 0 if nothing is written
	writing bool                // a write is in progress
	reading bool
	audits  int
}

// seat is one connection.
type seat struct {
	user     string
	watching bool
	fresh    bool // it has no list yet
}

// person is a user of this node.
type person struct {
	entry

	grace   int64  // until when the user may come back after a connection was lost
	next    int64  // when the next state may be set
	pending string // the state to be set then
	waits   bool   // there is one
}

const (
	// entryBytes is about what a user takes in memory, for each node that knows of it, and once more
	// for remembering that it was shown.
	entryBytes = 256
	// goneBytes is about what the name of a user takes who has gone, until Redis knows. It is less
	// than what the user took, so there is always room for it.
	goneBytes = 64
	// groupBytes, viewBytes and seatBytes are about what a group takes, what is added if it is watched,
	// and what each connection in it takes (BenchmarkGroupMemory).
	groupBytes = 896
	viewBytes  = 576
	seatBytes  = 80
	// frameRate and byteRate bound what connections of one organization get, per second. A frame
	// costs the node some microseconds for each receiver.
	frameRate = 5000
	byteRate  = 16 << 20
	// countPause is the least time between two frames of a group whose users are too many to be
	// listed.
	countPause = 2 * time.Second
	// auditEvery is how often what a group's hash says is compared, and sweepEvery how many of these
	// comparisons read the whole hash of a group that nobody here watches.
	auditEvery = 20 * time.Second
	sweepEvery = 15
)

func newMachine(node string, mostListed, bytes int) *machine {
	return &machine{
		node: node, mostListed: mostListed, grace: Grace, bytesPerOrganization: bytes,
		groups: make(map[event.Group]*group), orgs: make(map[orgctx.ID]*org),
		showing: make(map[*group]struct{}), unsaved: make(map[*group]struct{}), unread: make(map[*group]struct{}),
		auditing: make(map[*group]struct{}), rewanted: make(map[event.Group]struct{}), nodes: make(map[string]map[*group]struct{}), missing: make(map[string]time.Duration),
	}
}

// attend makes a user present.
func (m *machine) attend(name event.Group, user string, who Member, watch bool, now time.Time) error {
	g := m.groups[name]
	if g == nil {
		g = m.newGroup(name)
	}
	s, p := g.members[who], g.own[user]
	if !m.charge(g.org, g.price(s, p, user, watch)) {
		m.dropIfEmpty(g)
		return ErrFull
	}
	if !g.charged {
		g.charged = true
		m.auditLater(g, now)
	}
	if s == nil {
		if p == nil {
			p = &person{entry: entry{Since: now.UnixMilli()}}
			g.own[user] = p
		}
		s = &seat{user: user}
		g.members[who] = s
		p.Connections, p.Until = p.Connections+1, 0
		m.changed(g, user)
		if g.view != nil {
			m.adopt(g, user)
		}
	}
	if watch {
		m.watch(g, s)
	}
	return nil
}

// price returns what attending costs the organization: a seat and a user unless they exist, and a
// group and its view unless they are charged.
func (g *group) price(s *seat, p *person, user string, watch bool) (bytes int) {
	if !g.charged {
		bytes += groupBytes + len(g.name.Name())
	}
	if s == nil {
		bytes += seatBytes
	}
	if p == nil {
		bytes += entryBytes + len(user) - g.gonePrice(user)
	}
	if watch && g.view == nil {
		bytes += viewBytes
	}
	return bytes
}

// gonePrice returns what a user of this node costs the organization who has gone and whose field has
// to be written.
func (g *group) gonePrice(user string) (bytes int) {
	if _, ok := g.dirty[user]; ok && g.own[user] == nil {
		return goneBytes + len(user)
	}
	return 0
}

// newGroup returns a group that is not charged yet.
func (m *machine) newGroup(name event.Group) *group {
	o := m.orgs[name.Organization()]
	if o == nil {
		o = new(org)
		m.orgs[name.Organization()] = o
	}
	o.groups++
	g := &group{
		name: name, org: o, members: make(map[Member]*seat), own: make(map[string]*person), dirty: make(map[string]struct{}),
	}
	m.groups[name] = g
	return g
}

// auditLater has what a group's hash says compared after a while.
func (m *machine) auditLater(g *group, now time.Time) {
	if !m.alone {
		heap.Push(&m.due, deadline{at: now.Add(auditEvery).UnixMilli(), group: g, audit: true})
	}
}

// leave ends the presence of one connection.
func (m *machine) leave(name event.Group, who Member, how Departure, now time.Time) {
	g := m.groups[name]
	if g == nil || g.members[who] == nil {
		return
	}
	s := g.members[who]
	delete(g.members, who)
	m.refund(g.org, seatBytes)
	if s.watching {
		m.unwatch(g, s)
	}
	p := g.own[s.user]
	p.Connections--
	switch how {
	case Lost:
		p.grace = now.Add(m.grace).UnixMilli()
	case Ended:
		p.grace = 0
	case Closed:
	}
	if p.Connections > 0 {
		m.changed(g, s.user)
		return
	}
	if p.grace <= now.UnixMilli() {
		m.remove(g, s.user)
		return
	}
	p.Until = p.grace
	heap.Push(&m.due, deadline{at: p.Until, group: g, user: s.user, node: m.node})
	m.changed(g, s.user)
}

// remove forgets a user of this node.
func (m *machine) remove(g *group, user string) {
	p := g.own[user]
	m.refund(g.org, entryBytes+len(user)+len(p.State)+len(p.pending))
	delete(g.own, user)
	g.org.bytes += g.gonePrice(user)
	m.changed(g, user)
	m.dropIfEmpty(g)
}

// dropIfEmpty forgets a group that nobody attends and that is not in Redis.
func (m *machine) dropIfEmpty(g *group) {
	if len(g.own)+len(g.members) > 0 || g.seq != 0 || g.writing || g.reading || m.groups[g.name] != g {
		return
	}
	delete(m.groups, g.name)
	if g.charged {
		m.refund(g.org, groupBytes+len(g.name.Name()))
	}
	for user := range g.dirty {
		m.refund(g.org, g.gonePrice(user))
	}
	for _, set := range []map[*group]struct{}{m.showing, m.unsaved, m.unread, m.auditing} {
		delete(set, g)
	}
	if g.org.groups--; g.org.groups == 0 {
		delete(m.orgs, g.name.Organization())
	}
}

// changed notes that what this node says of a user has changed.
func (m *machine) changed(g *group, user string) {
	if !m.alone {
		m.soil(g, user)
	}
	m.touch(g, user)
}

// soil has the field of a user written.
func (m *machine) soil(g *group, user string) {
	if _, ok := g.dirty[user]; !ok {
		g.dirty[user] = struct{}{}
		g.org.bytes += g.gonePrice(user)
	}
	m.unsaved[g] = struct{}{}
}

// set sets the state of a user, at once or when the pause is over.
func (m *machine) set(name event.Group, who Member, state string, now time.Time) error {
	g := m.groups[name]
	if g == nil || g.members[who] == nil {
		return ErrAbsent
	}
	user := g.members[who].user
	p := g.own[user]
	if !m.charge(g.org, len(state)) {
		return ErrFull
	}
	m.refund(g.org, len(p.pending))
	if p.next > now.UnixMilli() {
		if !p.waits {
			heap.Push(&m.due, deadline{at: p.next, group: g, user: user, node: m.node, state: true})
		}
		p.pending, p.waits = state, true
		return nil
	}
	p.pending, p.waits = "", false
	m.setNow(g, user, state, now)
	return nil
}

// setNow sets a state whose bytes are charged.
func (m *machine) setNow(g *group, user, state string, now time.Time) {
	p := g.own[user]
	m.refund(g.org, len(p.State))
	p.State, p.SetAt = nil, max(now.UnixMilli(), p.SetAt+1)
	if state != "" {
		p.State = []byte(state)
	}
	p.next = now.Add(StatePause).UnixMilli()
	m.changed(g, user)
}

// charge counts bytes of an organization, and reports whether there is room for them.
func (m *machine) charge(o *org, bytes int) bool {
	if bytes > 0 && o.bytes+bytes > m.bytesPerOrganization {
		return false
	}
	o.bytes += bytes
	return true
}

func (m *machine) refund(o *org, bytes int) { o.bytes -= bytes }

// reconcile makes every group be compared with its hash.
func (m *machine) reconcile() {
	for _, g := range m.groups {
		m.wantRead(g)
	}
}

// wantRead makes the hash of a group be read, as soon as the channel is heard if anybody watches.
func (m *machine) wantRead(g *group) {
	if m.alone {
		return
	}
	m.unread[g] = struct{}{}
}

// farewell says of all users of this node that they may come back elsewhere.
func (m *machine) farewell(now time.Time) {
	for _, g := range m.groups {
		for user, p := range g.own {
			if !p.lingers() {
				p.Connections, p.Until = 0, now.Add(m.grace).UnixMilli()
				m.changed(g, user)
			}
		}
	}
}
