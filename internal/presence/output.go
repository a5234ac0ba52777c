package presence

import (
	"encoding/json"
	"slices"
	"time"

	"orgcast/internal/event"
)

// delivery is a frame and its receivers.
type delivery struct {
	frame *Frame
	to    []Member
}

const (
	// listBytes is the size of the longest list of users, and rowBytes what a row takes in addition
	// to the id and the state.
	listBytes = 256 << 10
	rowBytes  = 96
)

// tick returns what has to be shown now.
func (m *machine) tick(now time.Time) (out []delivery) {
	m.expire(now)
	for g := range m.showing {
		switch {
		case g.view == nil || g.view.watchers == 0:
			delete(m.showing, g)
		case !g.org.ready.Before(now.Add(Tick)): // its connections have got what they get in a tick; what changes meanwhile is collected
		default:
			delete(m.showing, g)
			out = append(out, m.show(g, now)...)
		}
	}
	return out
}

// show returns what the watchers of a group have to be shown.
func (m *machine) show(g *group, now time.Time) (out []delivery) {
	v := g.view
	if v.full {
		if v.refused {
			return nil
		}
		v.refused = true
		return m.deliver(g, now, out, errorFrame{"error", "unavailable", "Too many users and states. Try again later.", g.name.Name()}, rowBytes, true, true)
	}
	if !v.loaded {
		return nil
	}
	joined, left, ok := m.update(g)
	if !ok {
		m.overflow(g)
		return nil
	}
	v.refused = false
	count := len(v.shown)
	listed := count <= m.mostListed && v.size <= listBytes
	changed := len(joined)+len(left) > 0
	if listed != v.listed {
		v.listed, v.fresh = listed, v.watchers
		for _, s := range g.members {
			s.fresh = s.watching
		}
	} else if !listed {
		if changed = count != v.told; changed && now.Sub(v.toldAt) < countPause {
			m.showing[g], changed = struct{}{}, false
		}
	}
	if changed || v.fresh == v.watchers {
		v.told, v.toldAt = count, now
	}
	if changed && v.fresh < v.watchers {
		change := changeFrame{Type: "presence_change", Group: g.name.Name(), Count: count}
		size := rowBytes
		if listed {
			for _, user := range joined {
				change.Joined = append(change.Joined, v.shown[user].user(user))
				size += v.shown[user].size(user)
			}
			for _, user := range left {
				change.Left = append(change.Left, leaver{user})
				size += rowBytes + len(user)
			}
			sortUsers(change.Joined)
		}
		out = m.deliver(g, now, out, change, size, false, false)
	}
	if v.fresh > 0 {
		list, size := listFrame{Type: "presence", Group: g.name.Name(), Count: count}, rowBytes
		if listed {
			list.Users, size = m.list(g), size+v.size
		}
		out = m.deliver(g, now, out, list, size, true, false)
	}
	return out
}

// update makes what is shown equal to what is known, and returns the users who came or look
// different, and those who left. ok is false if there is no room for them.
func (m *machine) update(g *group) (joined, left []string, ok bool) {
	v := g.view
	for user := range v.touched {
		before, was := v.shown[user]
		after, is := m.merged(g, user)
		bytes := 0
		if was {
			bytes -= entryBytes + len(user) + len(before.state)
			v.size -= before.size(user)
		}
		if is {
			bytes += entryBytes + len(user) + len(after.state)
			v.size += after.size(user)
		}
		if !m.charge(g.org, bytes) {
			return nil, nil, false
		}
		v.bytes += bytes
		switch {
		case is:
			v.shown[user] = after
			if !was || before.connections != after.connections || before.state != after.state {
				joined = append(joined, user)
			}
		case was:
			delete(v.shown, user)
			left = append(left, user)
		}
	}
	clear(v.touched)
	slices.Sort(left)
	return joined, left, true
}

// list returns the users of a group as they are shown.
func (m *machine) list(g *group) []User {
	list := make([]User, 0, len(g.view.shown))
	for user, s := range g.view.shown {
		list = append(list, s.user(user))
	}
	sortUsers(list)
	return list
}

// deliver adds a frame for the watchers that have no list yet, or for those that have one, or for
// all, and counts it against what the organization's connections may get.
func (m *machine) deliver(g *group, now time.Time, out []delivery, value any, size int, fresh, all bool) []delivery {
	v := g.view
	d := delivery{frame: &Frame{group: g.name, value: value}}
	for who, s := range g.members {
		if s.watching && (all || s.fresh == fresh) {
			d.to = append(d.to, who)
			s.fresh = all // after an error, everyone needs a list again
		}
	}
	if v.fresh = 0; all {
		v.fresh = v.watchers
	} else if !fresh {
		v.fresh = v.watchers - len(d.to)
	}
	cost := time.Duration(len(d.to)) * (time.Second/frameRate + time.Duration(size)*time.Second/byteRate)
	if g.org.ready.Before(now) {
		g.org.ready = now
	}
	g.org.ready = g.org.ready.Add(cost)
	return append(out, d)
}

func (s shown) user(id string) User {
	u := User{UserID: id, Connections: s.connections, Since: time.UnixMilli(s.since).UTC()}
	if s.state != "" {
		u.State = json.RawMessage(s.state)
	}
	return u
}

// size is about how long the user's row is.
func (s shown) size(id string) int { return rowBytes + len(id) + len(s.state) }

// write is one write to the hash of a group, and its message.
type write struct {
	group *group
	diff  diff
	sent  map[string]struct{} // the users whose fields it writes
}

// mostFields is how many fields an organization may write at each tick.
const mostFields = 4 * chunk

// writes returns what has to be written now. Each write has to be passed to wrote.
func (m *machine) writes() (list []write) {
	left := make(map[*org]int)
	for g := range m.unsaved {
		if _, ok := left[g.org]; !ok {
			left[g.org] = mostFields
		}
		if g.writing || left[g.org] <= 0 {
			continue
		}
		for len(g.dirty) > 0 && left[g.org] > 0 || len(g.own) == 0 && g.seq != 0 {
			w := m.nextWrite(g)
			left[g.org] -= len(w.sent) + 1
			list = append(list, w)
		}
		if len(g.dirty) == 0 {
			delete(m.unsaved, g)
			m.dropIfEmpty(g)
		}
	}
	return list
}

// nextWrite takes up to a chunk of users off those that have to be written.
func (m *machine) nextWrite(g *group) write {
	m.seq++
	w := write{group: g, sent: make(map[string]struct{}), diff: diff{
		Organization: g.name.Organization().String(), Node: m.node, Seq: m.seq, Prev: g.seq, Set: make(map[string]entry),
	}}
	for user := range g.dirty {
		if len(w.sent) == chunk {
			break
		}
		w.sent[user] = struct{}{}
		m.refund(g.org, g.gonePrice(user))
		delete(g.dirty, user)
		if p := g.own[user]; p != nil {
			w.diff.Set[user] = p.entry
		} else {
			w.diff.Gone = append(w.diff.Gone, user)
		}
	}
	g.writing, g.seq = true, m.seq
	if len(g.own) == 0 && len(g.dirty) == 0 {
		w.diff.Last, g.seq = true, 0
	}
	return w
}

// wrote takes the results of writes, which may be unknown. What failed is written again.
func (m *machine) wrote(list []write, errs []error) {
	for i, w := range list {
		g := w.group
		g.writing = false
		if errs[i] != nil {
			for user := range w.sent {
				m.soil(g, user)
			}
			g.seq = max(g.seq, w.diff.Seq) // also if nothing is left, so that the end is written again
			m.unsaved[g] = struct{}{}
		}
	}
	for _, w := range list {
		m.dropIfEmpty(w.group)
	}
}

const (
	// mostReads is how many hashes are read at a time, and mostAudits how many are compared.
	mostReads  = 32
	mostAudits = 500
)

// reads returns the groups whose hashes have to be read now. Each has to be passed to load or
// unloaded.
func (m *machine) reads() (list []*group) {
	for g := range m.unread {
		if g.reading || g.writing || g.view != nil && !g.view.heard {
			continue
		}
		g.reading = true
		delete(m.unread, g)
		if list = append(list, g); len(list) == mostReads {
			break
		}
	}
	return list
}

// audit is a question for the numbers of the last writes of nodes to a group.
type audit struct {
	group *group
	nodes []string // this node first
	known []uint64 // what they were when the question was asked
}

// audits returns the groups that have to be compared with their hashes now.
func (m *machine) audits() (list []audit) {
	for g := range m.auditing {
		delete(m.auditing, g)
		g.audits++
		v := g.view
		switch {
		case v == nil && g.audits%sweepEvery == 0, v != nil && v.full:
			m.wantRead(g)
		case v != nil && !v.loaded: // it is about to be read
		default:
			if list = append(list, m.auditOf(g)); len(list) == mostAudits {
				return list
			}
		}
	}
	return list
}

// auditOf asks about this node, and about all others if somebody here watches the group.
func (m *machine) auditOf(g *group) audit {
	a := audit{group: g, nodes: []string{m.node}, known: []uint64{g.seq}}
	if g.view == nil {
		return a
	}
	for node, r := range g.view.remotes {
		a.nodes, a.known = append(a.nodes, node), append(a.known, r.seq)
	}
	for node := range m.alive { // one that this node has missed altogether
		if node != m.node && g.view.remotes[node] == nil {
			a.nodes, a.known = append(a.nodes, node), append(a.known, 0)
		}
	}
	return a
}

// audited takes the answers to an audit. If they are not what is known, the hash is read.
func (m *machine) audited(a audit, seqs []uint64) {
	g := a.group
	if m.groups[g.name] != g || g.writing {
		return
	}
	for i, node := range a.nodes {
		known := g.seq // messages may have come since
		if i > 0 {
			if g.view == nil {
				return
			}
			known = 0
			if r := g.view.remotes[node]; r != nil {
				known = r.seq
			}
		}
		if seqs[i] > known || seqs[i] < a.known[i] && known != 0 {
			m.wantRead(g)
			return
		}
	}
}

// who returns who is in a group: this node's own users, and those of a hash.
func (m *machine) who(name event.Group, h hash) Snapshot {
	g := &group{name: name, org: new(org), view: &view{
		remotes: make(map[string]*share), touched: make(map[string]struct{}), shown: make(map[string]shown),
	}}
	if known := m.groups[name]; known != nil {
		g.own = known.own
	}
	for user := range g.own {
		g.view.touched[user] = struct{}{}
	}
	for node, s := range h {
		g.view.remotes[node] = s
		for user := range s.users {
			g.view.touched[user] = struct{}{}
		}
	}
	m.update(g)
	snapshot := Snapshot{Count: len(g.view.shown)}
	if snapshot.Count <= m.mostListed {
		snapshot.Users = m.list(g)
	}
	return snapshot
}
