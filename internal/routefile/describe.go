package routefile

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"orgcast/internal/consumer"
)

// Describe writes the effective policy of each route, for people.
func Describe(w io.Writer, routes []Route) {
	for _, r := range routes {
		_, _ = fmt.Fprintf(w, "  %s\n", r.Pattern) // best effort: w is a terminal
		for _, line := range r.policy() {
			_, _ = fmt.Fprintf(w, "    %-10s %s\n", line[0], line[1])
		}
	}
}

// policy returns what a route allows, as names and sentences.
func (r *Route) policy() [][2]string {
	lines := [][2]string{{"who", r.describeWho()}, {"groups", r.describeGroups()}, {"first", r.describeFirst()}, {"events", r.describeEvents()}}
	if len(r.Groups) > 0 && r.Presence != consumer.ShowNobody {
		lines = append(lines, [2]string{"presence", r.describePresence()})
	}
	for _, typ := range slices.Sorted(maps.Keys(r.Receive)) {
		lines = append(lines, [2]string{"receive", typ + ": " + r.describeReaction(r.Receive[typ])})
	}
	switch {
	case r.Hook != nil && slices.Contains(r.Hook.On, consumer.HookReceive):
		lines = append(lines, [2]string{"receive", "all other types: the hook decides"})
	default:
		lines = append(lines, [2]string{"receive", "all other types: the error unknown_type"})
	}
	if r.Hook != nil {
		lines = append(lines, [2]string{"hook", fmt.Sprintf("%s on %s, within %s", r.Hook.URL, strings.Join(r.Hook.On, ", "), r.Hook.Timeout)})
	}
	return lines
}

func (r *Route) describeWho() string {
	who := "every member of the organization"
	switch {
	case r.Who.Role != "":
		who = "members with the role " + r.Who.Role
	case r.Who.Self != "":
		who = fmt.Sprintf("the user whose id is {%s}", r.Who.Self)
	case r.Who.Owner != "":
		who = fmt.Sprintf("the user who opened {%s} first", r.Who.Owner)
	}
	if r.Hook != nil && slices.Contains(r.Hook.On, consumer.HookConnect) {
		who += ", if the hook agrees"
	}
	return who
}

func (r *Route) describeGroups() string {
	var names []string
	for _, g := range r.Groups {
		names = append(names, g.String())
	}
	if r.Hook != nil && slices.Contains(r.Hook.On, consumer.HookConnect) {
		names = append(names, "those that the hook names")
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (r *Route) describeFirst() string {
	switch {
	case r.First.Fold != "":
		empty := "nothing"
		if r.First.Empty != nil {
			empty = "the fields of empty"
		}
		return fmt.Sprintf("one %s with the last value of each field; %s if nothing was recorded", r.First.Fold, empty)
	case r.First.Newest == 1:
		return "the newest event"
	case r.First.Newest > 1:
		return fmt.Sprintf("the newest %d events", r.First.Newest)
	}
	return "nothing"
}

func (r *Route) describeEvents() string {
	if r.Events == nil {
		return "all, as they were published"
	}
	var types []string
	for _, typ := range slices.Sorted(maps.Keys(r.Events)) {
		types = append(types, fmt.Sprintf("%s(%s)", typ, strings.Join(r.Events[typ], ", ")))
	}
	return strings.Join(types, ", ") + "; no others"
}

func (r *Route) describePresence() string {
	if r.Presence == consumer.ShowStates {
		return fmt.Sprintf("users in %s, and a state that each sets", r.Groups[0])
	}
	return "users in " + r.Groups[0].String()
}

func (r *Route) describeReaction(re consumer.Reaction) string {
	switch {
	case re.First:
		return "the first state again"
	case re.Task == nil:
		return "answers the question " + re.Answer.String()
	case re.Task.Reply != "":
		return fmt.Sprintf("task %s, answered to this connection with %s", re.Task.Kind, re.Task.Reply)
	case len(r.Groups) > 0:
		return fmt.Sprintf("task %s, whose events go to %s", re.Task.Kind, r.Groups[0])
	}
	return "task " + re.Task.Kind
}
