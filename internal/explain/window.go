package explain

import (
	"fmt"

	"orgcast/internal/trail"
)

// window tells what happened since a time.
func (w *words) window() {
	where := w.q.Organization.String()
	if w.q.Group != "" {
		where = w.q.Group + " of " + where
	}
	w.say("In %s since %s UTC:", where, clock(w.q.Since))
	said := len(w.e.Sentences)
	for _, n := range w.e.Nodes {
		if n.Answer != nil {
			w.nodeWindow(n)
		}
	}
	if w.q.User != "" && w.open() == 0 {
		w.say("User %s has no open connection on any node that answers.", w.q.User)
	}
	w.refusals()
	if len(w.e.Sentences) == said {
		w.say("Nothing was published, dropped or refused that any node remembers.")
	}
}

// open returns how many connections are open.
func (w *words) open() (n int) {
	for _, node := range w.e.Nodes {
		if node.Answer != nil {
			n += node.Answer.Open
		}
	}
	return n
}

// nodeWindow tells what happened on one node.
func (w *words) nodeWindow(n Node) {
	a := n.Answer
	for _, p := range a.Passed {
		w.say("Node %s received %s for %s while up to %s had joined it: %s.", n.Name, count(p.Events, "event"), p.Group, count(p.Members, "connection"), sums(p))
	}
	for _, d := range a.Dropped {
		w.say("Node %s dropped %s for %s at %s: %s.", n.Name, count(d.Events, "event"), d.Group, clock(d.From), dropReason(d.Reason, w.q.Organization.String(), d.Group))
	}
	for _, o := range a.Outages {
		w.outage(n, o)
	}
	for _, g := range a.Gaps {
		w.say("At %s, node %s told the members of %s of a gap: %s.", clock(g.At), n.Name, g.Group, gapReason(g.Reason))
	}
	left := maxExceptions
	for _, o := range a.Outcomes {
		if o.Cause == trail.CauseRefused {
			continue
		}
		if left--; left >= 0 {
			w.say("Connection %s of user %s %s.", o.ConnectionID, o.UserID, fateOfSome(o, w.group()))
		}
	}
	if left < 0 {
		w.say("%s more on node %s are not listed here.", count(-left, "decision"), n.Name)
	}
}

// sums says what became of the deliveries of several events.
func sums(p trail.Passed) string {
	text := fmt.Sprintf("%d of %s written, within %s", p.Written, count(p.Offered, "delivery"), took(p.SlowestSeconds))
	if p.Written == 0 {
		text = fmt.Sprintf("none of %s written", count(p.Offered, "delivery"))
	}
	if p.Lost > 0 {
		text += fmt.Sprintf(", %d not written", p.Lost)
	}
	if waits := p.Offered - p.Written - p.Lost; waits > 0 {
		text += fmt.Sprintf(", %d still waiting", waits)
	}
	return text
}

// fateOfSome says what became of some events at a connection.
func fateOfSome(o trail.Outcome, group string) string {
	if o.Group != "" {
		group = o.Group
	}
	text := fate(o, "events", group)
	switch o.Cause {
	case trail.LostOldest, trail.LostLatest, trail.LostTooSlow, trail.LostClosing, trail.LostWrite, trail.LostConsumer, trail.LostLeft:
		return fmt.Sprintf("did not get %s of %s: it %s", count(o.Events, "event"), group, text)
	default:
		return text
	}
}
