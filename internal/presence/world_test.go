package presence

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// world is nodes and a Redis without processes, sockets and clocks. It runs what [Room] runs, tick by
// tick.
type world struct {
	t     failer
	now   time.Time
	nodes []*simNode
	begun int // nodes so far

	hashes  map[event.Group]map[string]string
	leases  map[string]time.Time // until when
	refuses bool                 // Redis refuses writes
}

// failer is a test or a case of rapid.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// simNode is a node of a world.
type simNode struct {
	id      string
	m       *machine
	cut     bool // Redis cannot be reached
	linked  bool
	renewed time.Time
	listed  time.Time
	hears   map[event.Group]bool
	inbox   []message
	members []*simMember
	doubt   bool // answers to its writes get lost
	deaf    bool // messages to it get lost
	// slow is how long Redis takes to list the nodes, and flaky says that every second answer fails.
	slow    time.Duration
	flaky   bool
	surveys int
}

// message is one on a channel.
type message struct {
	group event.Group
	text  string
}

// simMember is a connection.
type simMember struct {
	w      *world
	node   *simNode
	group  event.Group
	user   string
	watch  bool
	left   bool
	users  map[string]User // nil if it has no list
	count  int
	frames []string
}

// Show implements Member. It sees that frames fit together.
func (s *simMember) Show(f *Frame) {
	if f.group != s.group || !s.watch {
		s.w.t.Fatalf("%s: a frame about %s", s.user, f.group)
	}
	short := ""
	switch v := f.value.(type) {
	case listFrame:
		short, s.count, s.users = "list", v.Count, nil
		if len(v.Users) == v.Count {
			s.users = make(map[string]User)
		}
		for _, u := range v.Users {
			short += " " + u.UserID
			s.users[u.UserID] = u
		}
	case changeFrame:
		short, s.count = "change", v.Count
		for _, u := range v.Joined {
			short += " +" + u.UserID
			s.users[u.UserID] = u
		}
		for _, u := range v.Left {
			short += " -" + u.UserID
			if _, ok := s.users[u.UserID]; !ok {
				s.w.t.Fatalf("%s: %s left, who was not there: %v", s.user, u.UserID, s.frames)
			}
			delete(s.users, u.UserID)
		}
	case errorFrame:
		short, s.users = v.Code, nil
	}
	s.frames = append(s.frames, short)
	if s.users != nil && len(s.users) != s.count {
		s.w.t.Fatalf("%s: %d users, count is %d: %v", s.user, len(s.users), s.count, s.frames)
	}
}

// sees returns the users with their connections and states.
func (s *simMember) sees() string {
	list := make([]string, 0, len(s.users))
	for user, u := range s.users {
		list = append(list, fmt.Sprintf("%s:%d%s", user, u.Connections, u.State))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

const simLease = 5 * time.Second

func newWorld(t failer, nodes int) *world {
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), hashes: make(map[event.Group]map[string]string), leases: make(map[string]time.Time)}
	for range nodes {
		w.start()
	}
	return w
}

// start starts another node.
func (w *world) start() *simNode {
	w.begun++
	id := "n" + strconv.Itoa(w.begun)
	n := &simNode{id: id, m: newMachine(id, DefaultMostListed, DefaultBytesPerOrganization), hears: make(map[event.Group]bool)}
	w.nodes = append(w.nodes, n)
	return n
}

// kill ends a node without a farewell.
func (w *world) kill(n *simNode) {
	w.nodes = slices.DeleteFunc(w.nodes, func(o *simNode) bool { return o == n })
	for _, s := range n.members {
		s.left = true
	}
}

// stop drains a node and ends it in order.
func (w *world) stop(n *simNode) {
	for _, s := range slices.Clone(n.members) {
		w.leave(s, Lost)
	}
	n.m.farewell(w.now)
	for len(n.m.unsaved) > 0 && !n.cut && !w.refuses {
		if w.write(n); n.doubt {
			break // it does not try again
		}
	}
	if !n.cut {
		delete(w.leases, n.id)
	}
	w.kill(n)
}

func (w *world) join(n *simNode, g event.Group, user string, watch bool) *simMember {
	w.t.Helper()
	s := &simMember{w: w, node: n, group: g, user: user, watch: watch}
	if err := n.m.attend(g, user, s, watch, w.now); err != nil {
		w.t.Fatalf("%s: %v", user, err)
	}
	n.members = append(n.members, s)
	return s
}

func (w *world) leave(s *simMember, how Departure) {
	s.left = true
	s.node.m.leave(s.group, s, how, w.now)
	s.node.members = slices.DeleteFunc(s.node.members, func(o *simMember) bool { return o == s })
}

// unlink breaks the subscription connection of a node.
func (n *simNode) unlink() {
	if n.linked {
		n.linked, n.inbox = false, nil
		clear(n.hears)
		n.m.lost()
	}
}

// alive returns the nodes with a lease.
func (w *world) alive(asking string) map[string]struct{} {
	list := map[string]struct{}{asking: {}}
	for id, until := range w.leases {
		if until.After(w.now) {
			list[id] = struct{}{}
		}
	}
	return list
}

// run lets time go by.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(Tick) {
		for _, n := range w.nodes {
			w.tick(n)
		}
	}
	for _, n := range w.nodes {
		w.account(n)
	}
}

// account compares what organizations are charged for with what a node holds for them.
func (w *world) account(n *simNode) {
	w.t.Helper()
	held := make(map[orgctx.ID]int)
	for name, g := range n.m.groups {
		bytes := groupBytes + len(name.Name()) + seatBytes*len(g.members)
		for user, p := range g.own {
			bytes += entryBytes + len(user) + len(p.State) + len(p.pending)
		}
		for user := range g.dirty {
			bytes += g.gonePrice(user)
		}
		if v := g.view; v != nil {
			bytes += viewBytes
			for _, r := range v.remotes {
				for user, e := range r.users {
					bytes += entryBytes + len(user) + len(e.State)
				}
			}
			for user, s := range v.shown {
				bytes += entryBytes + len(user) + len(s.state)
			}
		}
		held[name.Organization()] += bytes
	}
	for org, o := range n.m.orgs {
		if o.bytes != held[org] {
			w.t.Fatalf("%s is charged for %d bytes, and %s holds %d for it", org, o.bytes, n.id, held[org])
		}
	}
}

// tick is what a node does at each tick.
func (w *world) tick(n *simNode) {
	if n.cut {
		n.unlink()
	} else {
		w.link(n)
		if w.now.Sub(n.renewed) >= simLease/3 && !w.refuses {
			n.renewed = w.now
			if !w.leases[n.id].After(w.now) {
				n.m.reconcile()
			}
			w.leases[n.id] = w.now.Add(simLease)
		}
		w.write(n)
		w.read(n)
		w.audit(n)
		w.sweep(n)
	}
	if w.now.Sub(n.listed) >= max(surveyEvery, n.slow) {
		n.listed = w.now
		if n.surveys++; n.cut || n.flaky && n.surveys%2 == 0 {
			n.m.unsurveyed()
		} else {
			n.m.survey(w.alive(n.id), w.now)
		}
	}
	for _, d := range n.m.tick(w.now) {
		for _, who := range d.to {
			if s, ok := who.(*simMember); ok && !s.left {
				s.Show(d.frame)
			}
		}
	}
}

// link opens the link of a node, brings its channels in line, and delivers messages.
func (w *world) link(n *simNode) {
	if !n.linked {
		n.linked = true
		n.m.reconcile()
		for g, known := range n.m.groups {
			if known.view != nil {
				n.m.rewanted[g] = struct{}{}
			}
		}
	}
	for g := range n.m.rewanted {
		delete(n.m.rewanted, g)
		if n.hears[g] = n.m.watched(n.m.groups[g]); n.hears[g] {
			n.m.confirmed(n.m.groups[g])
		} else {
			delete(n.hears, g)
		}
	}
	inbox := n.inbox
	n.inbox = nil
	for _, msg := range inbox {
		d, err := decodeDiff(msg.group, []byte(msg.text))
		if err != nil {
			w.t.Fatalf("%s: %v", msg.text, err)
		}
		n.m.receive(n.m.groups[msg.group], d, w.now)
	}
}

// write does what write.lua does.
func (w *world) write(n *simNode) {
	list := n.m.writes()
	errs := make([]error, len(list))
	for i, wr := range list {
		if w.refuses {
			errs[i] = errMalformed
			continue
		}
		h := w.hashes[wr.group.name]
		if h == nil {
			h = make(map[string]string)
			w.hashes[wr.group.name] = h
		}
		for _, user := range wr.diff.Gone {
			delete(h, keyspace.PresenceField(n.id, user))
		}
		for user, e := range wr.diff.Set {
			h[keyspace.PresenceField(n.id, user)] = e.text()
		}
		if own := keyspace.PresenceField(n.id, ""); wr.diff.Last {
			delete(h, own)
		} else {
			h[own] = strconv.FormatUint(wr.diff.Seq, 10)
		}
		text, err := json.Marshal(wr.diff)
		if err != nil {
			w.t.Fatalf("%v", err)
		}
		for _, other := range w.nodes {
			if other.hears[wr.group.name] && !other.deaf {
				other.inbox = append(other.inbox, message{wr.group.name, string(text)})
			}
		}
		if n.doubt {
			errs[i] = errMalformed // it was done, but the node does not know
		}
	}
	n.m.wrote(list, errs)
}

func (w *world) read(n *simNode) {
	for _, g := range n.m.reads() {
		n.m.load(g, decodeHash(maps.Clone(w.hashes[g.name])), w.alive(n.id), w.now)
	}
}

func (w *world) audit(n *simNode) {
	for _, a := range n.m.audits() {
		seqs := make([]uint64, len(a.nodes))
		for i, node := range a.nodes {
			seqs[i], _ = strconv.ParseUint(w.hashes[a.group.name][keyspace.PresenceField(node, "")], 10, 64)
		}
		n.m.audited(a, seqs)
	}
}

// sweep does what sweep.lua does.
func (w *world) sweep(n *simNode) {
	if w.refuses {
		return
	}
	for _, s := range n.m.sweeps {
		h, own := w.hashes[s.group.name], keyspace.PresenceField(s.node, "")
		if seq, _ := strconv.ParseUint(h[own], 10, 64); seq != s.seq {
			continue
		}
		for _, user := range s.users {
			delete(h, keyspace.PresenceField(s.node, user))
		}
		if s.all {
			delete(h, own)
		}
	}
	n.m.sweeps = nil
}

// flush loses all data of Redis; restart also breaks all connections.
func (w *world) flush() {
	clear(w.hashes)
	clear(w.leases)
}

func (w *world) restart() {
	w.flush()
	for _, n := range w.nodes {
		n.unlink()
	}
}

// present returns who is in a group, without states.
func (w *world) present(g event.Group) string {
	connections := make(map[string]int)
	for _, n := range w.nodes {
		for _, s := range n.members {
			if s.group == g {
				connections[s.user]++
			}
		}
	}
	list := make([]string, 0, len(connections))
	for user, n := range connections {
		list = append(list, fmt.Sprintf("%s:%d", user, n))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// check sees that all who watch see the same, and who is there; and that Redis has no more.
func (w *world) check() {
	w.t.Helper()
	for _, n := range w.nodes {
		for _, s := range n.members {
			if !s.watch {
				continue
			}
			stateless := strings.Join(slices.Collect(func(yield func(string) bool) {
				for user := range strings.FieldsSeq(s.sees()) {
					before, _, _ := strings.Cut(user, "{")
					if !yield(before) {
						return
					}
				}
			}), " ")
			if want := w.present(s.group); stateless != want {
				w.t.Fatalf("%s at %s sees %q of %s, want %q; frames %q", s.user, n.id, stateless, s.group, want, s.frames)
			}
		}
	}
	for g, fields := range w.hashes {
		h := decodeHash(fields)
		for id := range h {
			if _, ok := w.alive("")[id]; !ok {
				delete(h, id)
			}
		}
		var list []string
		for _, u := range newMachine("", 1<<20, 1<<40).who(g, h).Users {
			list = append(list, fmt.Sprintf("%s:%d", u.UserID, u.Connections))
		}
		slices.Sort(list)
		if got, want := strings.Join(list, " "), w.present(g); got != want {
			w.t.Fatalf("Redis has %q of %s, want %q", got, g, want)
		}
	}
}
