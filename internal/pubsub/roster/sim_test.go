package roster_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/pubsub/roster/former"
)

// choices decide what happens next.
type choices interface {
	// Intn returns a number from 0 to n-1.
	Intn(n int) int
}

// reporter is told what is wrong.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sim is a Redis and a node without I/O: servers that execute commands and publish, links that break, histories that
// are read in pieces. What the roster is asked and answers goes the way that package pubsub has it go.
type sim struct {
	t       reporter
	choices choices
	former  bool // compare with the former receiver
	sharded bool
	keys    keyspace.Keyspace

	machines []driven
	at       time.Duration
	steps    int
	trace    []string
	made     int // links
	caught   int // catchings-up
	number   int // of events
	back     uint64
	servers  []string
	owners   []string // by slot
	links    []*simLink
	groups   []*simGroup
	epochs   map[orgctx.ID]int
	filler   map[event.Group]*event.Event
	rare     bool // histories are lost, events come late and again
}

type simLink struct {
	number     int
	server     string
	cut        bool
	writing    []roster.Command // not written yet
	unlocated  []event.Group
	sent       []roster.Command // not executed yet
	subscribed map[string]bool
	inbox      []arrival
	catching   *catching
}

// arrival is what a server has sent: a message, a confirmation or a refusal.
type arrival struct {
	kind, channel string
	id            int
	head          event.Head
	object        string
	refused       bool
	owner         string
}

// catching is a group that catches up.
type catching struct {
	number   int
	group    *simGroup
	mark     event.Mark
	begun    bool
	answer   roster.Answer
	entries  []entry
	releases bool
	held     int // event
}

// entry is one event of a history.
type entry struct {
	id   int
	head event.Head
}

type simGroup struct {
	group   event.Group
	channel string
	history []entry
	trimmed bool

	members int
	owing   bool           // from here on it gets everything
	owed    []int          // recorded since
	excused map[int]bool   // came early, in nobody's order
	former  map[int]bool   // of a history that was lost; they may come between those of the next one
	had     map[int]bool   // handed over since
	log     []int          // likewise, in order; 0 is a gap
	ids     map[string]int // events by position and key
}

func newSim(tb testing.TB, t reporter, c choices, compare, sharded, rare bool) *sim {
	tb.Helper()
	keys, err := keyspace.New("sim")
	if err != nil {
		tb.Fatal(err)
	}
	s := &sim{t: t, choices: c, former: compare, sharded: sharded, rare: rare, keys: keys, servers: []string{""}, epochs: make(map[orgctx.ID]int), filler: make(map[event.Group]*event.Event)}
	o := roster.Options{
		Keys: keys, NodeID: "node", Sharded: sharded, EventsPerSecond: 200, BytesPerSecond: -1,
		Rand: func(n int64) int64 { return n / 3 },
	}
	start := time.Unix(1700000000, 0)
	s.machines = append(s.machines, newMachine[*roster.Link, roster.Behind](roster.New(o), start))
	if compare {
		s.machines = append(s.machines, newMachine[*former.Link, former.Behind](former.New(o), start))
	}
	if sharded {
		s.servers = []string{"a:1", "b:1", "c:1"}
		s.owners = make([]string, keyspace.Slots)
		for i := range s.owners {
			s.owners[i] = s.servers[i*len(s.servers)/len(s.owners)]
		}
		s.do(input{Do: "surveyed", Owners: slices.Clone(s.owners)})
	}
	for i := range 5 {
		org, err := orgctx.ParseID("org" + strconv.Itoa(i%3))
		if err != nil {
			tb.Fatal(err)
		}
		g, err := event.NewGroup(org, "room"+strconv.Itoa(i))
		if err != nil {
			tb.Fatal(err)
		}
		s.groups = append(s.groups, &simGroup{group: g, channel: keys.GroupChannel(g), ids: make(map[string]int)})
		if s.filler[g], err = event.Decode(g, `{"type":"t","organization_id":"`+org.String()+`"}`, 1000, start); err != nil {
			tb.Fatal(err)
		}
	}
	for _, server := range s.servers {
		s.attach(server)
	}
	return s
}

func (s *sim) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\nafter %d inputs, the last of which are:\n%s", fmt.Sprintf(format, args...), s.steps, strings.Join(s.trace, "\n"))
}

// note adds a line to what is shown when something is wrong.
func (s *sim) note(line string) {
	if len(s.trace) >= 200 {
		s.trace = append(s.trace[:0], s.trace[100:]...)
	}
	s.trace = append(s.trace, line)
}

// do gives all machines an input, and compares what they make of it.
func (s *sim) do(i input) output {
	i.At = s.at
	s.steps++
	o := s.machines[0].do(i)
	if o.String() != "" || i.Do != "next" && i.Do != "behind" {
		s.note(fmt.Sprintf("%v: %v", i, o))
	}
	for _, m := range s.machines[1:] {
		if diff := compare(o, m.do(i)); diff != "" {
			s.fatalf("different:\n%s", diff)
		}
		if s.steps%8 != 0 {
			continue
		}
		for _, g := range s.groups {
			if a, b := s.machines[0].state(g.group), m.state(g.group); a != b {
				s.fatalf("different state of %v:\nnow    %s\nformer %s", g.group, a, b)
			}
		}
	}
	return o
}

func (s *sim) owner(channel string) string {
	if !s.sharded {
		return ""
	}
	return s.owners[keyspace.Slot(channel)]
}

// attach opens a link.
func (s *sim) attach(server string) {
	canary := s.keys.Canary("node")
	if s.sharded {
		o := s.do(input{Do: "canary", Server: server})
		if !o.OK || s.owner(o.Text) != server {
			return // the survey tells old news
		}
		canary = o.Text
	}
	s.do(input{Do: "attach", Server: server, Channel: canary})
	s.links = append(s.links, &simLink{number: s.made, server: server, subscribed: map[string]bool{canary: true}})
	s.made++
}

// byChannel returns the group of a channel, nil without one.
func (s *sim) byChannel(channel string) *simGroup {
	for _, g := range s.groups {
		if g.channel == channel {
			return g
		}
	}
	return nil
}

func (s *sim) byGroup(g event.Group) *simGroup { return s.byChannel(s.keys.GroupChannel(g)) }

// begin starts to watch what a group gets.
func (g *simGroup) begin() {
	if g.members > 0 && !g.owing {
		g.owing, g.owed, g.log, g.excused, g.had = true, nil, nil, make(map[int]bool), make(map[int]bool)
		g.former = make(map[int]bool)
	}
}

// gap takes note that the group's members are told of a gap.
func (g *simGroup) gap() { g.log = append(g.log, 0) }

// hand takes note that the group is handed an event.
func (s *sim) hand(g *simGroup, id int) {
	if !g.owing {
		return
	}
	if g.had[id] {
		s.fatalf("%v: event %d came twice", g.group, id)
	}
	g.had[id] = true
	g.log = append(g.log, id)
}

// verdict does what package pubsub does with a verdict.
func (s *sim) verdict(g *simGroup, v roster.Verdict, id int) {
	if v == roster.Lost || v == roster.Denied {
		g.gap()
	}
	if v == roster.Take || v == roster.Lost {
		s.hand(g, id)
	}
}

// check sees that the group got everything that it is owed, once and in order, or was told. A gap may stand before an
// event that is older than the last one, too: all was lost while it waited.
func (s *sim) check(g *simGroup) {
	next, told := 0, false
	index := make(map[int]int, len(g.owed))
	for i, id := range g.owed {
		index[id] = i
	}
	done := make(map[int]bool, len(g.owed)) // handed over, or within a gap
	skip := func(to int) {
		for ; next < to; next++ {
			id := g.owed[next]
			if !told && !done[id] && !g.excused[id] && (!g.former[id] || !g.had[id]) {
				s.fatalf("%v: event %d is lost, and no gap was told: owed %v, got %v", g.group, id, g.owed, g.log)
			}
			done[id] = true
		}
	}
	for _, id := range g.log {
		i, ok := index[id]
		switch {
		case id == 0:
			told = true
		case !ok || g.excused[id] || g.former[id]:
		case i < next && !told:
			s.fatalf("%v: event %d came out of order: owed %v, got %v", g.group, id, g.owed, g.log)
		default:
			skip(i)
			done[id] = true
			next, told = i+1, false
		}
	}
	skip(len(g.owed))
}

// publish has the owner of a group's slot pass on an event. It is recorded unless position is zero.
func (s *sim) publish(g *simGroup, h event.Head, id int, object string) {
	s.note(fmt.Sprintf("publish %d to %v at %v key %d", id, g.group, h.Position, h.Key))
	g.ids[fmt.Sprint(h)] = id
	server := s.owner(g.channel)
	for _, l := range s.links {
		if !l.cut && l.server == server && l.subscribed[g.channel] {
			l.inbox = append(l.inbox, arrival{channel: g.channel, id: id, head: h, object: object})
		}
	}
}

// position returns the next one. After the clock has gone back they are lower, and others than before.
func (s *sim) position() event.Position {
	s.number++
	return event.NewPosition(uint64(1_000_000+s.number)-s.back, s.back/1000)
}

func (s *sim) record(g *simGroup, keyed bool, object string) {
	h := event.Head{Position: s.position()}
	if keyed {
		h.Key = uint64(s.number)
	}
	g.history = append(g.history, entry{s.number, h})
	if g.owing {
		g.owed = append(g.owed, s.number)
	}
	s.publish(g, h, s.number, object)
}

// step lets something happen.
func (s *sim) step() {
	g := s.groups[s.choices.Intn(len(s.groups))]
	var l *simLink
	if len(s.links) > 0 {
		l = s.links[s.choices.Intn(len(s.links))]
	}
	switch n := s.choices.Intn(100); {
	case n < 6:
		g.members++
		if s.do(input{Do: "subscribe", Group: g.group}).OK {
			g.begin()
		}
	case n < 9 && g.members > 0:
		s.leave(g)
	case n < 22:
		object := "small"
		if s.choices.Intn(6) == 0 {
			object = large
		}
		s.record(g, s.choices.Intn(2) == 0, object)
	case n < 23:
		s.number++
		s.publish(g, event.Head{}, s.number, transient+strconv.Itoa(s.number))
	case n < 25:
		s.at += time.Duration(s.choices.Intn(40)) * time.Millisecond
	case n < 26:
		s.at += time.Duration(s.choices.Intn(2000)) * time.Millisecond
	case n < 27 && s.rare:
		s.odd(g)
	case n < 29 && s.sharded:
		s.move(g)
	case n < 31 && s.sharded:
		s.do(input{Do: "surveyed", Owners: slices.Clone(s.owners)})
	case n < 32:
		var events []*event.Event
		for range s.choices.Intn(3) {
			events = append(events, s.filler[g.group])
		}
		s.do(input{Do: "unseen", Group: g.group, Answer: roster.Answer{Events: events, Complete: true}, Head: event.Head{Position: event.NewPosition(1, 1)}})
	case l == nil:
		s.attach(s.servers[s.choices.Intn(len(s.servers))])
	case n < 34:
		s.cut(l)
	case n < 38 && l.cut:
		s.replace(l)
	case n < 50:
		s.write(l)
	case n < 62:
		s.execute(l)
	case n < 80:
		s.receive(l)
	default:
		s.catchUp(l)
	}
}

func (s *sim) leave(g *simGroup) {
	g.members--
	if g.members == 0 && g.owing {
		g.owing = false
	}
	s.do(input{Do: "unsubscribe", Group: g.group})
}

func (s *sim) cut(l *simLink) {
	s.note(fmt.Sprintf("link %d is cut", l.number))
	l.cut, l.inbox, l.sent = true, nil, nil
}

// lose gives a link up that brought something unexpected. In a Cluster a channel may be taken away that is being
// unsubscribed: the one looks like the answer to the other.
func (s *sim) lose(l *simLink, why string) {
	if !s.sharded {
		s.fatalf("link %d: %s", l.number, why)
	}
	s.cut(l)
}

// odd lets something happen that no publisher means.
func (s *sim) odd(g *simGroup) {
	switch s.choices.Intn(6) {
	case 0: // an event that is in no history, ahead of all
		s.number++
		s.publish(g, event.Head{Position: event.NewPosition(uint64(2_000_000+s.number), 5)}, s.number, "late")
	case 1, 2: // an event that is passed on again, at another position
		if len(g.history) == 0 {
			return
		}
		e := g.history[s.choices.Intn(len(g.history))]
		if e.head.Key == 0 {
			return
		}
		if g.owing {
			g.excused[e.id] = true
		}
		h := event.Head{Key: e.head.Key, Position: event.NewPosition(e.head.Position.Milliseconds()+uint64(s.choices.Intn(20)), 7)}
		s.publish(g, h, e.id, "again")
	case 3: // everything is lost, and the clock may go back
		s.note("everything is lost")
		for _, g := range s.groups {
			g.history, g.trimmed = nil, false
			for _, id := range g.owed {
				if !g.had[id] {
					g.former[id] = true
				}
			}
			s.epochs[g.group.Organization()]++
		}
		if s.choices.Intn(2) == 0 && s.back < 500_000 {
			s.back += 1000
		}
	default: // old events are dropped from the history
		if len(g.history) > 0 {
			s.note(fmt.Sprintf("the history of %v is trimmed", g.group))
			g.history, g.trimmed = g.history[s.choices.Intn(len(g.history))+1:], true
		}
	}
}

// move gives the slot of a group, or of a canary, to another server.
func (s *sim) move(g *simGroup) {
	channel := g.channel
	if len(s.links) > 0 && s.choices.Intn(4) == 0 {
		for c := range s.links[0].subscribed {
			if strings.Contains(c, "canary") {
				channel = c
			}
		}
	}
	from, to := s.owner(channel), s.servers[s.choices.Intn(len(s.servers))]
	if from == to {
		return
	}
	s.note(fmt.Sprintf("the slot of %s moves from %s to %s", channel, from, to))
	s.owners[keyspace.Slot(channel)] = to
	for _, l := range s.links {
		if l.server != from || l.cut {
			continue
		}
		for _, c := range sorted(l.subscribed) {
			if s.owner(c) == to && keyspace.Slot(c) == keyspace.Slot(channel) {
				delete(l.subscribed, c)
				l.inbox = append(l.inbox, arrival{kind: "sunsubscribe", channel: c})
			}
		}
	}
}

func sorted(set map[string]bool) (list []string) {
	for c := range set {
		list = append(list, c)
	}
	slices.Sort(list)
	return list
}

// replace ends a link that is cut, once nothing works on it, and opens another one.
func (s *sim) replace(l *simLink) {
	if l.catching != nil && l.catching.begun {
		return
	}
	s.do(input{Do: "detach", Link: l.number})
	s.links = slices.DeleteFunc(s.links, func(o *simLink) bool { return o == l })
	s.attach(l.server)
}

// write takes the next commands of a link, or reads where histories end and writes them.
func (s *sim) write(l *simLink) {
	if len(l.writing) == 0 {
		o := s.do(input{Do: "next", Link: l.number})
		l.writing, l.unlocated = o.Commands, o.Groups
		return
	}
	if len(l.unlocated) > 0 {
		i := input{Do: "locate", Groups: l.unlocated}
		failed := s.choices.Intn(20) == 0
		for _, g := range l.unlocated {
			m := event.Mark{Epoch: strconv.Itoa(s.epochs[g.Organization()])}
			if h := s.byGroup(g).history; len(h) > 0 {
				m = event.Mark{Position: h[len(h)-1].head.Position}
			}
			if failed {
				m = event.Mark{}
			}
			i.Marks, i.Known = append(i.Marks, m), append(i.Known, !failed)
		}
		s.do(i)
		l.unlocated = nil
		return
	}
	if !l.cut {
		l.sent = append(l.sent, l.writing...)
	}
	l.writing = nil
}

// execute has a server execute the next command of a link.
func (s *sim) execute(l *simLink) {
	if l.cut || len(l.sent) == 0 {
		return
	}
	c := l.sent[0]
	l.sent = l.sent[1:]
	if server := s.owner(c.Channels[0]); server != l.server {
		if s.choices.Intn(3) == 0 {
			server = "" // or it is about to be moved
		}
		l.inbox = append(l.inbox, arrival{refused: true, owner: server})
		return
	}
	for _, channel := range c.Channels {
		if strings.HasSuffix(c.Kind, "unsubscribe") {
			delete(l.subscribed, channel)
		} else {
			l.subscribed[channel] = true
		}
		l.inbox = append(l.inbox, arrival{kind: c.Kind, channel: channel})
	}
}

// receive takes what a server has sent.
func (s *sim) receive(l *simLink) {
	if len(l.inbox) == 0 {
		return
	}
	a := l.inbox[0]
	l.inbox = l.inbox[1:]
	switch {
	case a.refused:
		if !s.do(input{Do: "refuse", Link: l.number, Server: a.owner}).OK {
			s.lose(l, "a refusal of nothing")
		}
	case a.kind != "":
		o := s.do(input{Do: "confirm", Link: l.number, Kind: a.kind, Channel: a.channel})
		if !o.OK {
			s.lose(l, "an unexpected confirmation")
			return
		}
		if o.Confirmation.Subscribed != "" {
			s.byChannel(o.Confirmation.Subscribed).begin()
		}
		if g := o.Confirmation.Gap; !g.IsZero() {
			s.byGroup(g).gap()
		}
	default:
		o := s.do(input{Do: "admit", Link: l.number, Channel: a.channel, Head: a.head, Object: a.object})
		s.verdict(s.byChannel(a.channel), o.Verdict, a.id)
	}
}

// catchUp goes one step further with what a link's groups have missed.
func (s *sim) catchUp(l *simLink) {
	c := l.catching
	switch {
	case c == nil && l.cut:
	case c == nil:
		if o := s.do(input{Do: "behind", Link: l.number}); o.OK {
			l.catching = &catching{number: s.caught, group: s.byGroup(o.Group), mark: o.Mark}
			s.caught++
		}
	case !c.begun:
		if l.cut {
			l.catching = nil // its context has ended
			return
		}
		s.read(c)
		c.begun = true
		if s.do(input{Do: "begin", Catching: c.number, Answer: c.answer}).OK {
			c.group.gap()
		}
	case len(c.entries) > 0:
		e := c.entries[0]
		c.entries = c.entries[1:]
		o := s.do(input{Do: "caught up", Catching: c.number, Head: e.head})
		if !o.More {
			c.entries = nil
			return
		}
		s.verdict(c.group, o.Verdict, e.id)
	case !c.releases:
		o := s.do(input{Do: "first held", Catching: c.number})
		c.releases, c.held = o.OK, c.group.ids[fmt.Sprint(o.Held)]
		if number, ok := strings.CutPrefix(o.Text, transient); ok {
			c.held, _ = strconv.Atoi(number)
		}
		if !o.OK {
			l.catching = nil
		}
	default:
		o := s.do(input{Do: "release", Catching: c.number})
		c.releases = false
		if !o.More {
			l.catching = nil
			return
		}
		s.verdict(c.group, o.Verdict, c.held)
	}
}

// read asks a history for what follows a mark, as package pubsub does.
func (s *sim) read(c *catching) {
	history := c.group.history
	at := func(p event.Position) int {
		return slices.IndexFunc(history, func(e entry) bool { return e.head.Position == p })
	}
	switch i := at(c.mark.Position); {
	case s.choices.Intn(30) == 0:
		c.answer.Failed = true
	case c.mark.Position.IsZero():
		c.entries = history
		c.answer.Complete = !c.group.trimmed && c.mark.Epoch == strconv.Itoa(s.epochs[c.group.group.Organization()])
	case i >= 0:
		c.entries = history[i+1:]
		c.answer.Complete = true
	default:
		c.entries = slices.DeleteFunc(slices.Clone(history), func(e entry) bool { return e.head.Position.Compare(c.mark.Position) < 0 })
		for _, p := range slices.Backward(s.do(input{Do: "remembered", Catching: c.number}).Positions) {
			if i := at(p); i >= 0 {
				c.entries = history[i+1:]
				break
			}
		}
	}
	c.entries = slices.Clone(c.entries)
	for range c.entries {
		c.answer.Events = append(c.answer.Events, s.filler[c.group.group])
	}
}

// now returns the machine that drives the roster.
func (s *sim) now() *machine[*roster.Link, roster.Behind] {
	m, ok := s.machines[0].(*machine[*roster.Link, roster.Behind])
	if !ok {
		s.fatalf("no roster")
	}
	return m
}

// finish lets everything that is under way happen, and sees that nobody is owed anything.
func (s *sim) finish() {
	if s.sharded {
		s.do(input{Do: "surveyed", Owners: slices.Clone(s.owners)})
	}
	for round := 0; ; round++ {
		before := s.steps
		s.at += 20 * time.Second // pauses end
		for _, l := range slices.Clone(s.links) {
			for l.catching != nil {
				s.catchUp(l)
			}
			if l.cut {
				s.replace(l)
			}
		}
		for _, server := range s.servers {
			if !slices.ContainsFunc(s.links, func(l *simLink) bool { return l.server == server }) {
				s.attach(server)
			}
		}
		if s.sharded {
			s.do(input{Do: "surveyed", Owners: slices.Clone(s.owners)})
		}
		busy := false
		for _, l := range s.links {
			for range 50 {
				s.write(l)
				busy = busy || len(l.writing) > 0 || len(l.sent) > 0 || len(l.inbox) > 0
				s.execute(l)
				s.receive(l)
				s.catchUp(l)
				busy = busy || l.catching != nil
			}
		}
		now := s.now()
		for _, l := range s.links { // one may have work because of another
			busy = busy || now.links[l.number].MayWrite() || now.links[l.number].MayRead()
		}
		if _, paused := now.Wanted(); !busy && paused == 0 {
			break
		}
		if round > 200 {
			s.fatalf("it does not come to rest: %d inputs in the last round", s.steps-before)
		}
	}
	for _, g := range s.groups {
		subscribed := 0
		for _, l := range s.links {
			if l.subscribed[g.channel] {
				subscribed++
			}
		}
		if want := min(g.members, 1); subscribed != want {
			s.fatalf("%v: subscribed %d times, want %d", g.group, subscribed, want)
		}
		if g.owing {
			s.check(g)
		}
	}
}

// end has everybody leave, and sees that nothing is remembered.
func (s *sim) end() {
	for _, g := range s.groups {
		for g.members > 0 {
			s.leave(g)
		}
	}
	s.finish()
	if size := s.now().Size(); size != (roster.Size{}) {
		s.fatalf("remembered: %+v, want nothing", size)
	}
}

// transient is how the objects of such events begin.
const transient = "transient "

// large is more than a group may hold, after some.
var large = strings.Repeat("x", 300<<10)
