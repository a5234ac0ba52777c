package roster_test

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
)

// input is something that happens to a roster. link and catching are the numbers of its links and
// rounds of catching up, in the order of their creation.
type input struct {
	Do       string
	At       time.Duration `json:",omitempty"`
	Link     int           `json:",omitempty"`
	Catching int           `json:",omitempty"`

	Group   event.Group   `json:"-"`
	Server  string        `json:",omitempty"`
	Kind    string        `json:",omitempty"`
	Channel string        `json:",omitempty"`
	Head    event.Head    `json:"-"`
	Object  string        `json:"-"`
	Owners  []string      `json:"-"`
	Answer  roster.Answer `json:"-"`
	Groups  []event.Group `json:"-"`
	Marks   []event.Mark  `json:"-"`
	Known   []bool        `json:"-"`
}

func (i input) String() string {
	s := fmt.Sprintf("%v %s link %d", i.At, i.Do, i.Link)
	for _, v := range []any{i.Server, i.Kind, i.Channel, i.Object} {
		if v != "" {
			s += fmt.Sprintf(" %.60v", v)
		}
	}
	if !i.Group.IsZero() {
		s += " " + i.Group.String()
	}
	if i.Head != (event.Head{}) {
		s += fmt.Sprintf(" at %v key %d", i.Head.Position, i.Head.Key)
	}
	if i.Do == "begin" {
		s += fmt.Sprintf(" %d events, complete %t, failed %t", len(i.Answer.Events), i.Answer.Complete, i.Answer.Failed)
	}
	return s
}

// output is what a roster returns for an input. Each kind of input sets only some fields.
type output struct {
	OK, More, Paused bool
	Commands         []roster.Command
	Groups           []event.Group
	Group            event.Group
	Mark             event.Mark
	Verdict          roster.Verdict
	Confirmation     roster.Confirmation
	Held             event.Head
	Positions        []event.Position
	Servers          []string
	Text             string
	Events           int
}

// String leaves out zero fields.
func (o output) String() string {
	var parts []string
	for v, i := reflect.ValueOf(o), 0; i < v.NumField(); i++ {
		if f := v.Field(i); !f.IsZero() {
			parts = append(parts, fmt.Sprintf("%s: %v", v.Type().Field(i).Name, f.Interface()))
		}
	}
	return strings.Join(parts, ", ")
}

// machine drives a roster.
type machine struct {
	*roster.Roster
	links     []*roster.Link
	catchings []roster.Behind
	start     time.Time
}

func newMachine(o roster.Options, start time.Time) *machine {
	return &machine{Roster: roster.New(o), start: start}
}

func (m *machine) do(i input) (o output) {
	now := m.start.Add(i.At)
	switch i.Do {
	case "subscribe":
		o.OK = m.Subscribe(i.Group, now)
	case "unsubscribe":
		o.OK = m.Unsubscribe(i.Group, now)
	case "attach":
		m.links = append(m.links, m.Attach(i.Server, i.Channel, now))
	case "detach":
		m.Detach(m.links[i.Link], now)
	case "next":
		o.Paused = m.Resume(m.links[i.Link], now)
		o.Commands = m.Next(m.links[i.Link], now)
		o.Groups = m.Unlocated(o.Commands)
	case "locate":
		m.Locate(i.Groups, i.Marks, i.Known)
	case "confirm":
		o.Confirmation, o.OK = m.Confirm(m.links[i.Link], i.Kind, i.Channel, now)
		o.Text = m.links[i.Link].Canary()
	case "refuse":
		o.OK = m.Refuse(m.links[i.Link], i.Server, now)
	case "surveyed":
		m.Surveyed(i.Owners, now)
		o.Servers, o.OK = m.Masters()
	case "canary":
		o.Text, o.OK = m.CanaryOf(i.Server, i.Channel)
	case "judge":
		o.Group, o.Verdict = m.Judge(m.links[i.Link], i.Channel, i.Head, i.Object, now)
	case "behind":
		if batch := m.Behind(m.links[i.Link], 1); len(batch) > 0 {
			m.catchings = append(m.catchings, batch[0])
			o.OK, o.Group, o.Mark = true, batch[0].Group(), batch[0].Mark()
		}
	case "remembered":
		o.Positions = m.Remembered(m.catchings[i.Catching])
	case "begin":
		o.OK = m.HandOver(m.catchings[i.Catching], i.Answer, now)
	case "caught up":
		o.Verdict, o.More = m.CaughtUp(m.catchings[i.Catching], i.Head)
	case "first held":
		var h roster.Held
		h, o.OK = m.FirstHeld(m.catchings[i.Catching])
		o.Held, o.Text = h.Head, fmt.Sprintf("%.20s", h.Object)
	case "release":
		o.Verdict, o.More = m.Release(m.catchings[i.Catching])
	case "unseen":
		events, complete := m.Unseen(i.Group, i.Head.Position, append([]*event.Event(nil), i.Answer.Events...), i.Answer.Complete)
		o.Events, o.OK = len(events), complete
	default:
		panic("unknown input " + i.Do)
	}
	return o
}

// state describes one group as seen from outside.
func (m *machine) state(g event.Group) string {
	mark, known := m.Mark(g)
	wanted, paused := m.Wanted()
	text := fmt.Sprintf("%v %t %d %d %v", mark, known, wanted, paused, m.Size())
	for _, l := range m.links {
		text += fmt.Sprint(" ", l.MayWrite(), l.MayRead(), l.UnconfirmedSince().Sub(m.start))
	}
	return text
}
