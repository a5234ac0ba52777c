package roster_test

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/testkit"
)

// choices decide what happens next.
type choices interface {
	// Intn returns a number from 0 to n-1.
	Intn(n int) int
}

// reporter reports failures.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sim is a Redis and a node without I/O: servers that execute commands and publish, links that
// break, and histories that are read in steps. It calls the roster in the same order as package
// pubsub.
type sim struct {
	t       reporter
	choices choices
	twice   bool // give a second roster the same inputs, and compare
	sharded bool
	keys    keyspace.Keyspace

	machines []*machine
	at       time.Duration
	steps    int
	trace    []string
	made     int // number of links
	caught   int // number of rounds of catching up
	number   int // of the newest event
	back     uint64
	servers  []string
	owners   []string // by slot
	links    []*simLink
	groups   []*simGroup
	epochs   map[orgctx.ID]int
	filler   map[event.Group]*event.Event
	rare     bool // also lose histories, and send events late and again
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

// catching is a round of catching up of one group.
type catching struct {
	number   int
	group    *simGroup
	mark     event.Mark
	begun    bool
	answer   roster.Answer
	entries  []entry
	releases bool
	held     int // id of the event that FirstHeld returned
}

// entry is one event in a history.
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
	owing   bool           // from here on the group must get everything
	owed    []int          // recorded since then
	excused map[int]bool   // came early, out of order
	former  map[int]bool   // of a lost history; they may come between those of the next one
	had     map[int]bool   // delivered since then
	log     []int          // the same, in order; 0 is a gap
	ids     map[string]int // events by position and key
}

func newSim(tb testing.TB, t reporter, c choices, twice, sharded, rare bool) *sim {
	tb.Helper()
	keys := testkit.KeysUnder(tb, "sim")
	s := &sim{t: t, choices: c, twice: twice, sharded: sharded, rare: rare, keys: keys, servers: []string{""}, epochs: make(map[orgctx.ID]int), filler: make(map[event.Group]*event.Event)}
	o := roster.Options{
		Keys: keys, NodeID: "node", Sharded: sharded, EventsPerSecond: 200, BytesPerSecond: -1,
		Rand: func(n int64) int64 { return n / 3 },
	}
	start := time.Unix(1700000000, 0)
	s.machines = append(s.machines, newMachine(o, start))
	if twice {
		s.machines = append(s.machines, newMachine(o, start))
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
		g := testkit.Group(tb, "org"+strconv.Itoa(i%3), "room"+strconv.Itoa(i))
		s.groups = append(s.groups, &simGroup{group: g, channel: keys.GroupChannel(g), ids: make(map[string]int)})
		var err error
		if s.filler[g], err = event.Decode(g, `{"type":"t","organization_id":"`+g.Organization().String()+`"}`, 1000, start); err != nil {
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

// note adds a line to the log of a failure.
func (s *sim) note(line string) {
	if len(s.trace) >= 200 {
		s.trace = append(s.trace[:0], s.trace[100:]...)
	}
	s.trace = append(s.trace, line)
}

// do gives all machines an input, and compares their outputs.
func (s *sim) do(i input) output {
	i.At = s.at
	s.steps++
	o := s.machines[0].do(i)
	if o.String() != "" || i.Do != "next" && i.Do != "behind" {
		s.note(fmt.Sprintf("%v: %v", i, o))
	}
	for _, m := range s.machines[1:] {
		if again := m.do(i); !reflect.DeepEqual(o, again) {
			s.fatalf("different:\none   %v\nother %v", o, again)
		}
		if s.steps%8 != 0 {
			continue
		}
		for _, g := range s.groups {
			if a, b := s.machines[0].state(g.group), m.state(g.group); a != b {
				s.fatalf("different state of %v:\none   %s\nother %s", g.group, a, b)
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
			return // the survey is outdated
		}
		canary = o.Text
	}
	s.do(input{Do: "attach", Server: server, Channel: canary})
	s.links = append(s.links, &simLink{number: s.made, server: server, subscribed: map[string]bool{canary: true}})
	s.made++
}

// byChannel returns the group of a channel, or nil.
func (s *sim) byChannel(channel string) *simGroup {
	for _, g := range s.groups {
		if g.channel == channel {
			return g
		}
	}
	return nil
}

func (s *sim) byGroup(g event.Group) *simGroup { return s.byChannel(s.keys.GroupChannel(g)) }

// step makes one random thing happen.
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

// transient is the prefix of the objects of transient events.
const transient = "transient "

// large is so large that a group may hold only a few.
var large = strings.Repeat("x", 300<<10)
