package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orgcast/internal/trail"
)

// words makes the sentences of an explanation.
type words struct {
	q trail.Query
	e *Explanation
}

func (w *words) say(format string, arguments ...any) {
	w.e.Sentences = append(w.e.Sentences, fmt.Sprintf(format, arguments...))
}

// clock writes a time of day, with milliseconds.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// took writes how long a delivery took.
func took(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)); {
	case d < time.Millisecond:
		return "1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", (d+time.Millisecond-1)/time.Millisecond)
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// count writes a number with its noun.
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		return fmt.Sprintf("%d %s", n, strings.TrimSuffix(noun, "y")+"ies")
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}

// group names the group of a question, or what stands for it.
func (w *words) group() string { return cmp.Or(w.q.Group, "its group") }

// event tells what became of one event.
func (w *words) event() {
	recorded := time.UnixMilli(int64(w.q.Position.Milliseconds())) //nolint:gosec // as Redis means it
	switch w.e.History {
	case Recorded:
		w.say("Event %s was recorded in %s of %s on %s at %s UTC.", w.q.Position, w.q.Group, w.q.Organization, recorded.UTC().Format(time.DateOnly), clock(recorded))
	case Missing:
		w.say("The history of %s in %s does not have event %s: it was never published there, or the history no longer keeps it.", w.q.Group, w.q.Organization, w.q.Position)
	case Unread:
		w.say("The history of %s in %s could not be read.", w.q.Group, w.q.Organization)
	case NotAsked:
	}
	known := false
	for _, n := range w.e.Nodes {
		if n.Answer != nil {
			known = w.node(n) || known
		}
	}
	if !known && w.q.Group == "" {
		w.say("No node remembers an event %s of %s. To learn who could have got it, name its group.", w.q.Position, w.q.Organization)
	}
	w.users()
	w.absent()
}

// node tells what one node did with the event, and reports whether it knew of it.
func (w *words) node(n Node) (known bool) {
	a := n.Answer
	for _, p := range a.Passed {
		known = true
		more := ""
		if p.Events > 1 {
			more = fmt.Sprintf(", with %s within the same second,", count(p.Events-1, "other event"))
		}
		w.say("Node %s received it at %s%s and offered it to %s: %s.", n.Name, clock(p.From), more, count(p.Members, "connection"), deliveries(p))
	}
	for _, d := range a.Dropped {
		known = true
		w.say("Node %s dropped it at %s: %s.", n.Name, clock(d.From), dropReason(d.Reason, w.q.Organization.String(), d.Group))
	}
	missed := a.Counts[trail.CauseNotReceived]
	if missed == 0 {
		return known
	}
	w.say("Node %s did not receive it, although %d of its connections had joined %s.", n.Name, missed, w.group())
	for _, o := range a.Outages {
		w.outage(n, o)
	}
	for _, g := range a.Gaps {
		w.say("At %s, node %s told the members of %s of a gap: %s.", clock(g.At), n.Name, g.Group, gapReason(g.Reason))
	}
	return true
}

// deliveries says what became of the deliveries of events.
func deliveries(p trail.Passed) string {
	if p.Events > 1 {
		return fmt.Sprintf("of all %s, %d were written, within %s, %d were lost, %d wait", count(p.Offered, "delivery"), p.Written, took(p.SlowestSeconds), p.Lost, p.Offered-p.Written-p.Lost)
	}
	var parts []string
	if p.Written > 0 || p.Offered == 0 {
		parts = append(parts, fmt.Sprintf("%d written within %s", p.Written, took(p.SlowestSeconds)))
	}
	if p.Lost > 0 {
		parts = append(parts, fmt.Sprintf("%d not written", p.Lost))
	}
	if waits := p.Offered - p.Written - p.Lost; waits > 0 {
		parts = append(parts, fmt.Sprintf("%d still waiting", waits))
	}
	return strings.Join(parts, ", ")
}

func (w *words) outage(n Node, o trail.Outage) {
	server := "Redis"
	if o.Server != "" {
		server = "Redis at " + o.Server
	}
	until := "until now"
	if !o.To.IsZero() {
		until = "until " + clock(o.To)
	}
	w.say("Node %s had lost its connection to %s: it noticed at %s, and it lasted %s (%s).", n.Name, server, clock(o.From), until, o.Error)
}

// users tells for each user how many connections got the event, and why others did not.
func (w *words) users() {
	type tally struct {
		got, all int
		slowest  float64
	}
	of := make(map[string]*tally)
	for _, n := range w.e.Nodes {
		if n.Answer == nil {
			continue
		}
		slowest := 0.0
		for _, p := range n.Answer.Passed {
			slowest = max(slowest, p.SlowestSeconds)
		}
		for _, o := range n.Answer.Outcomes {
			if o.Cause == trail.CauseRefused {
				continue
			}
			t := of[o.UserID]
			if t == nil {
				t = new(tally)
				of[o.UserID] = t
			}
			t.all++
			if o.Cause == trail.CauseWritten || o.Cause == trail.CauseHistory {
				t.got++
			}
			if o.Cause == trail.CauseWritten {
				t.slowest = max(t.slowest, slowest)
			}
		}
	}
	users := slices.Sorted(maps.Keys(of))
	for _, user := range users[:min(len(users), maxUsers)] {
		t := of[user]
		within := ""
		if t.slowest > 0 {
			within = " within " + took(t.slowest)
		}
		switch {
		case t.all == 1 && t.got == 1:
			w.say("The connection of user %s got it%s.", user, within)
		case t.all == 1:
			w.say("The connection of user %s did not get it.", user)
		case t.got == t.all:
			w.say("All %d connections of user %s got it%s.", t.all, user, within)
		case t.got == 0:
			w.say("None of the %d connections of user %s got it.", t.all, user)
		default:
			w.say("%d of %d connections of user %s got it%s.", t.got, t.all, user, within)
		}
		w.exceptions(user)
	}
	if more := len(users) - maxUsers; more > 0 {
		w.say("%s more are not listed here.", count(more, "user"))
	}
}

// maxUsers bounds the users, and maxExceptions the connections, that sentences tell of.
const (
	maxUsers      = 50
	maxExceptions = 50
)

// exceptions tells why connections of a user did not get the event, or got it late.
func (w *words) exceptions(user string) {
	left := maxExceptions
	for _, n := range w.e.Nodes {
		if n.Answer == nil {
			continue
		}
		for _, o := range n.Answer.Outcomes {
			if o.UserID != user || o.Cause == trail.CauseWritten || o.Cause == trail.CauseRefused {
				continue
			}
			if left--; left >= 0 {
				w.say("Connection %s of user %s %s.", o.ConnectionID, o.UserID, fate(o, "it", cmp.Or(o.Group, w.group())))
			}
		}
	}
	if left < 0 {
		w.say("%s more of user %s are not listed here.", count(-left, "connection"), user)
	}
}

// absent tells of users without a connection, and of refused handshakes.
func (w *words) absent() {
	concerned := 0
	for _, n := range w.e.Nodes {
		if n.Answer == nil {
			continue
		}
		for _, o := range n.Answer.Outcomes {
			if o.Cause != trail.CauseRefused {
				concerned++
			}
		}
	}
	switch {
	case concerned > 0:
	case w.q.User != "":
		w.say("User %s had no connection to any node that remembers that time.", w.q.User)
	case w.q.Group != "":
		w.say("No connection had joined %s on any node that remembers that time.", w.q.Group)
	}
	w.refusals()
}

// refusals tells of refused handshakes.
func (w *words) refusals() {
	left := maxExceptions
	for _, n := range w.e.Nodes {
		if n.Answer == nil {
			continue
		}
		for _, o := range n.Answer.Outcomes {
			if o.Cause != trail.CauseRefused {
				continue
			}
			if left--; left >= 0 {
				w.say("Node %s refused a handshake of user %s at %s: %s.", n.Name, o.UserID, clock(o.At), spaced(o.Reason))
			}
		}
	}
	if left < 0 {
		w.say("%s more are not listed here.", count(-left, "refused handshake"))
	}
}

// limits tells what the answer does not cover.
func (w *words) limits() {
	from := w.q.Since
	if !w.q.Position.IsZero() {
		from = time.UnixMilli(int64(w.q.Position.Milliseconds())) //nolint:gosec // as Redis means it
	}
	for _, n := range w.e.Nodes {
		switch {
		case n.Answer == nil && n.State == "failed":
			w.say("Node %s does not understand the question: it runs another version.", n.Name)
		case n.Answer == nil:
			w.say("Node %s, which started at %s, does not answer. If it was killed, what it remembered of %s is gone, and its connections ended with it.", n.Name, clock(n.Started), w.q.Organization)
		case n.Answer.Off:
			w.say("Node %s remembers nothing: --explain-bytes-per-organization is 0.", n.Name)
		case n.Answer.Reaches.After(from):
			w.say("Node %s remembers %s only since %s, which is not all of the time in question.", n.Name, w.q.Organization, clock(n.Answer.Reaches))
		}
	}
	if len(w.e.Nodes) == 0 {
		w.say("No node answered.")
	}
}
