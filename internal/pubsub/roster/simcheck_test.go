package roster_test

import (
	"slices"
	"time"

	"orgcast/internal/pubsub/roster"
)

// begin starts to record what a group gets.
func (g *simGroup) begin() {
	if g.members > 0 && !g.owing {
		g.owing, g.owed, g.log, g.excused, g.had = true, nil, nil, make(map[int]bool), make(map[int]bool)
		g.former = make(map[int]bool)
	}
}

// gap records that the group's members are told of a gap.
func (g *simGroup) gap() { g.log = append(g.log, 0) }

// hand records that an event is delivered to the group.
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
	if v == roster.Deliver || v == roster.Lost {
		s.hand(g, id)
	}
}

// check fails the test unless the group got everything that it must get, once and in order, or was
// told of a gap. A gap may also come before an event older than the last one: then the history was
// lost while that event waited.
func (s *sim) check(g *simGroup) {
	next, told := 0, false
	index := make(map[int]int, len(g.owed))
	for i, id := range g.owed {
		index[id] = i
	}
	done := make(map[int]bool, len(g.owed)) // delivered, or covered by a gap
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

// now returns the machine that drives the roster.
func (s *sim) now() *machine { return s.machines[0] }

// finish lets everything in progress happen, and checks that every group got what it must get.
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
		for _, l := range s.links { // a link may have work because of another one
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

// end removes all members, and checks that nothing is remembered.
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
