package roster_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
)

// publish makes the owner of a group's slot pass on an event. The event is recorded unless its
// position is zero.
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

// position returns the next position. After the clock has gone back, positions are lower, and
// differ from earlier ones.
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

func (s *sim) cut(l *simLink) {
	s.note(fmt.Sprintf("link %d is cut", l.number))
	l.cut, l.inbox, l.sent = true, nil, nil
}

// lose drops a link after an unexpected message. In a Cluster, a server may take away a channel
// that is being unsubscribed, and the notice looks like the confirmation.
func (s *sim) lose(l *simLink, why string) {
	if !s.sharded {
		s.fatalf("link %d: %s", l.number, why)
	}
	s.cut(l)
}

// odd simulates an event that no publisher intended.
func (s *sim) odd(g *simGroup) {
	switch s.choices.Intn(6) {
	case 0: // an event that is in no history, ahead of all
		s.number++
		s.publish(g, event.Head{Position: event.NewPosition(uint64(2_000_000+s.number), 5)}, s.number, "late")
	case 1, 2: // an event that is passed on again under another position
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

// replace ends a broken link once nothing uses it, and opens another one.
func (s *sim) replace(l *simLink) {
	if l.catching != nil && l.catching.begun {
		return
	}
	s.do(input{Do: "detach", Link: l.number})
	s.links = slices.DeleteFunc(s.links, func(o *simLink) bool { return o == l })
	s.attach(l.server)
}

// write takes the next commands of a link, and either reads the ends of histories or writes the
// commands.
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

// execute makes a server execute the next command of a link.
func (s *sim) execute(l *simLink) {
	if l.cut || len(l.sent) == 0 {
		return
	}
	c := l.sent[0]
	l.sent = l.sent[1:]
	if server := s.owner(c.Channels[0]); server != l.server {
		if s.choices.Intn(3) == 0 {
			server = "" // or its slot is about to move
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
		o := s.do(input{Do: "judge", Link: l.number, Channel: a.channel, Head: a.head, Object: a.object})
		s.verdict(s.byChannel(a.channel), o.Verdict, a.id)
	}
}

// catchUp does the next step of catching up for a link's groups.
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

// read asks a history for the events after a mark, as package pubsub does.
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
