package channellayer

import (
	"time"

	dto "github.com/prometheus/client_model/go"

	"orgcast/internal/event"
)

// NewIntake returns what a Layer does with messages, without its connection. now is when they come.
func NewIntake(o Options, sink Sink) Intake {
	o = o.withDefaults()
	b := newBudgets()
	g := newGroups(1, b)
	i := newIntake(o, b, newMetrics(o.Registerer))
	i.begin(sink)
	return Intake{i, g}
}

// Intake is the part of a Layer that has no connection.
type Intake struct {
	intake *intake
	groups *groups
}

// Subscribe and Unsubscribe are those of a Layer, but do not wait.
func (i Intake) Subscribe(g event.Group)   { i.groups.subscribe(g) }
func (i Intake) Unsubscribe(g event.Group) { i.groups.unsubscribe(g) }

// PubSub takes a payload of the pub/sub layer.
func (i Intake) PubSub(name string, payload []byte, now time.Time) {
	i.intake.pubsub(i.groups, name, payload, now)
}

// Settle tells groups that are owed a gap.
func (i Intake) Settle(now time.Time) {
	sink, limits := i.intake.receiver()
	i.intake.gapsTo(sink, i.intake.budgets.settle(limits, now))
}

// Roster is what a Layer wants and has.
type Roster struct{ groups *groups }

// NewRoster returns an empty Roster for a node with so many queues.
func NewRoster(queues int) Roster { return Roster{newGroups(queues, newBudgets())} }

// Subscribe returns a channel that is closed when the node is a member.
func (r Roster) Subscribe(g event.Group) <-chan struct{} { return r.groups.subscribe(g) }

// Unsubscribe undoes one Subscribe.
func (r Roster) Unsubscribe(g event.Group) { r.groups.unsubscribe(g) }

// Begin and End are a connection's.
func (r Roster) Begin() { r.groups.begin() }
func (r Roster) End()   { r.groups.end() }

// Next returns the names of the groups to join and to leave, with their tags.
func (r Roster) Next(most int) (join, leave map[string]string) {
	named := func(list []command) map[string]string {
		m := make(map[string]string)
		for _, c := range list {
			m[c.name] = c.tag
		}
		return m
	}
	j, l := r.groups.next(most)
	return named(j), named(l)
}

// Joined and Left confirm commands.
func (r Roster) Joined(name string) (gaps []event.Group, ok bool) { return r.groups.joined(name) }
func (r Roster) Left(name string) (ok bool)                       { return r.groups.left(name) }

// Empty reports whether nothing is left.
func (r Roster) Empty() bool {
	g := r.groups
	left := 0
	for _, n := range g.load {
		left += n
	}
	return len(g.byName)+len(g.byTag)+len(g.changed)+len(g.budgets.byOrg)+left == 0
}

// Received returns how many messages have been taken.
func (l *Layer) Received() int {
	var m dto.Metric
	_ = l.intake.metrics.received.Write(&m) // a counter does not fail
	return int(m.GetCounter().GetValue())
}
