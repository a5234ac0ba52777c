package channellayer

import (
	"strconv"
	"sync"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// groups are the groups of Channels on one server that organizations want, and whether the node is a
// member.
type groups struct {
	wake chan struct{} // there may be something to join or leave; capacity 1, enough for any number

	mu      sync.Mutex // never held during I/O or calls of the Sink
	byName  map[string]*group
	changed map[string]*group // those that may have to be joined or left
	open    bool              // there is a connection

	budgets *budgets // of all servers; its lock is taken after mu

	// Only in the core layer.
	byTag   map[string]*group
	load    []int // groups of each queue
	lastTag uint64
}

// state is how far a group is.
type state uint8

const (
	out     state = iota
	joining       // the command was sent
	in
	leaving // the command was sent
)

// group is a group of Channels.
type group struct {
	name   string
	counts map[orgctx.ID]int // subscriptions of each organization
	state  state
	since  time.Time     // when the command was sent; when the group was first wanted if out
	joined chan struct{} // closed while the node is a member
	lost   bool          // it was joined on a connection that was lost, so a gap is due

	// In the core layer, the queue of the group and its name there. A group has them from the first
	// attempt to join until it is left.
	queue int
	tag   string
}

func (g *group) wanted() bool { return len(g.counts) > 0 }

// newGroups returns an empty set for a node with so many queues.
func newGroups(queues int, b *budgets) *groups {
	return &groups{
		wake: make(chan struct{}, 1), byName: make(map[string]*group), changed: make(map[string]*group),
		budgets: b, byTag: make(map[string]*group), load: make([]int, queues),
	}
}

// subscribe counts a subscription. The channel is closed when the node is a member.
func (s *groups) subscribe(g event.Group) (joined <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	org := g.Organization()
	s.budgets.subscribe(org)
	d := s.byName[g.Name()]
	if d == nil {
		d = &group{name: g.Name(), counts: make(map[orgctx.ID]int), since: time.Now(), joined: make(chan struct{})}
		s.byName[d.name] = d
	}
	if d.counts[org]++; d.state == out || d.state == leaving {
		s.change(d)
	}
	return d.joined
}

// unsubscribe undoes one subscription.
func (s *groups) unsubscribe(g event.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	org := g.Organization()
	d := s.byName[g.Name()]
	if d == nil || d.counts[org] == 0 {
		return
	}
	d.counts[org]--
	s.budgets.unsubscribe(g, d.counts[org] == 0)
	if d.counts[org] > 0 {
		return
	}
	delete(d.counts, org)
	switch {
	case d.wanted():
	case d.state == out && d.tag == "":
		s.forget(d)
	default: // the server may still have the node as a member
		s.change(d)
	}
}

// change notes that a group may have to be joined or left. s.mu is held.
func (s *groups) change(d *group) {
	s.changed[d.name] = d
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// forget removes a group that nobody wants and that is not joined. s.mu is held.
func (s *groups) forget(d *group) {
	delete(s.byName, d.name)
	delete(s.changed, d.name)
	s.untag(d)
}

// untag takes the queue and the tag from a group. s.mu is held.
func (s *groups) untag(d *group) {
	if d.tag == "" {
		return
	}
	delete(s.byTag, d.tag)
	s.load[d.queue]--
	d.tag = ""
}

// begin begins with a connection: all wanted groups have to be joined.
func (s *groups) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	for _, d := range s.byName {
		s.change(d)
	}
}

// end ends with a connection.
func (s *groups) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	clear(s.changed)
	now := time.Now()
	for _, d := range s.byName {
		if d.state == in {
			d.joined = make(chan struct{})
			d.lost = true
		}
		d.state, d.since = out, now
		if !d.wanted() && d.tag == "" {
			s.forget(d)
		}
	}
}

// command is a group to join or leave.
type command struct {
	name  string
	queue int
	tag   string
}

// next returns at most so many groups to join and to leave.
func (s *groups) next(most int) (join, leave []command) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return nil, nil
	}
	for name, d := range s.changed {
		if len(join)+len(leave) == most {
			break
		}
		delete(s.changed, name)
		switch {
		case d.state == out && d.wanted():
			s.address(d)
			d.state, d.since = joining, now
			join = append(join, command{d.name, d.queue, d.tag})
		case d.state == in && !d.wanted(), d.state == out && d.tag != "": // the latter was left without an answer
			if d.state == in {
				d.joined = make(chan struct{})
			}
			d.state, d.since = leaving, now
			leave = append(leave, command{d.name, d.queue, d.tag})
		case d.state == out && !d.wanted():
			s.forget(d)
		}
	}
	return join, leave
}

// address gives a group its place in the core layer: the queue that has the fewest groups, and a
// tag that was never used. s.mu is held.
func (s *groups) address(d *group) {
	if len(s.load) == 0 || d.tag != "" {
		return
	}
	d.queue = 0
	for q, n := range s.load {
		if n < s.load[d.queue] {
			d.queue = q
		}
	}
	s.load[d.queue]++
	s.lastTag++
	d.tag = strconv.FormatUint(s.lastTag, 36)
	s.byTag[d.tag] = d
}

// joined notes that the node is a member of a group. It returns the groups of organizations for
// which a gap is due. ok is false if the group was not about to be joined.
func (s *groups) joined(name string) (gaps []event.Group, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byName[name]
	if d == nil || d.state != joining {
		return nil, false
	}
	d.state = in
	close(d.joined)
	if d.lost {
		gaps = d.groups()
	}
	d.lost = false
	if !d.wanted() {
		s.change(d)
	}
	return gaps, true
}

// left notes that the node is no longer a member of a group. ok is false if the group was not about
// to be left.
func (s *groups) left(name string) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byName[name]
	if d == nil || d.state != leaving {
		return false
	}
	d.state, d.lost = out, false
	s.untag(d)
	if !d.wanted() {
		s.forget(d)
		return true
	}
	s.change(d)
	return true
}

// groups returns the groups of all organizations that want the group.
func (g *group) groups() []event.Group {
	list := make([]event.Group, 0, len(g.counts))
	for org := range g.counts {
		if of, err := event.NewGroup(org, g.name); err == nil { // it was made before
			list = append(list, of)
		}
	}
	return list
}

// ofQueue returns the groups of organizations whose events come through a queue.
func (s *groups) ofQueue(queue int) (list []event.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byTag {
		if d.queue == queue {
			list = append(list, d.groups()...)
		}
	}
	return list
}

// of returns the groups of organizations that want a group.
func (s *groups) of(name string) []event.Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byName[name]; d != nil {
		return d.groups()
	}
	return nil
}

// find returns an organization's group with a name. ok is false if the organization does not want
// it.
func (s *groups) find(org orgctx.ID, name string) (g event.Group, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byName[name]; d == nil || d.counts[org] == 0 {
		return event.Group{}, false
	}
	g, err := event.NewGroup(org, name)
	return g, err == nil
}

// named returns the name of the group with a tag.
func (s *groups) named(tag string) (name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byTag[tag]; d != nil {
		return d.name, true
	}
	return "", false
}

// members returns the groups that the node is a member of.
func (s *groups) members() (list []command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byName {
		if d.state == in {
			list = append(list, command{d.name, d.queue, d.tag})
		}
	}
	return list
}

// tagged returns the groups that the node may be a member of, because it has tried to join them.
func (s *groups) tagged() (list []command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byTag {
		list = append(list, command{d.name, d.queue, d.tag})
	}
	return list
}

// waitingSince returns since when a wanted group has not been joined, zero if all are.
func (s *groups) waitingSince() (oldest time.Time) {
	return s.oldest(func(d *group) bool { return d.wanted() && d.state != in })
}

// unconfirmedSince returns when the oldest command was sent that has no answer, zero if there is
// none.
func (s *groups) unconfirmedSince() time.Time {
	return s.oldest(func(d *group) bool { return d.state == joining || d.state == leaving })
}

func (s *groups) oldest(concerns func(d *group) bool) (oldest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byName {
		if concerns(d) && (oldest.IsZero() || d.since.Before(oldest)) {
			oldest = d.since
		}
	}
	return oldest
}

// count returns how many groups are wanted.
func (s *groups) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byName {
		if d.wanted() {
			n++
		}
	}
	return n
}
