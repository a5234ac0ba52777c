package trail

import (
	"orgcast/internal/event"
)

// event says what became of the event at a position.
func (v *view) event(a *Answer) (found []Outcome) {
	for _, g := range v.groupsOf() {
		at := v.q.recorded().UnixNano()
		var passed, dropped *seen
		for i := range v.records {
			s := &v.records[i]
			switch {
			case s.group != g:
			case s.kind == kindPassed && s.contains(v.q.Position):
				passed = s
			case s.kind == kindDropped && s.contains(v.q.Position):
				dropped = s
				a.Dropped = append(a.Dropped, s.dropped())
			case s.kind == kindGap && s.at >= at-int64(slack):
				a.Gaps = append(a.Gaps, Gap{Group: g.Name(), Reason: s.reason, At: stampTime(s.at)})
			}
		}
		cause := CauseNotReceived
		switch {
		case passed != nil:
			a.Passed = append(a.Passed, passed.passed())
			cause, at = CauseWritten, passed.at
		case dropped != nil:
			cause, at = CauseDropped, dropped.at
		}
		found = append(found, v.outcomes(g, cause, at, passed)...)
	}
	return append(found, v.refusals()...)
}

// groupsOf returns the groups that the question may be about: the one that it names, or those in
// which something is known of the event.
func (v *view) groupsOf() (groups []event.Group) {
	if v.q.Group != "" {
		if g, err := event.NewGroup(v.q.Organization, v.q.Group); err == nil {
			groups = append(groups, g)
		}
		return groups
	}
	known := make(map[event.Group]bool)
	for i := range v.records {
		if s := &v.records[i]; !s.group.IsZero() && !known[s.group] && s.contains(v.q.Position) {
			known[s.group] = true
			groups = append(groups, s.group)
		}
	}
	return groups
}

// outcomes says what became of an event at each connection. cause is that of a member of the group
// at the time, to which nothing else happened.
func (v *view) outcomes(g event.Group, cause string, at int64, passed *seen) (found []Outcome) {
	exceptions := v.exceptions(g)
	waiting := passed != nil && passed.written+passed.lost < passed.count*passed.members
	for i := range v.stays {
		s := &v.stays[i]
		if v.q.User != "" && s.user != v.q.User {
			continue
		}
		o, ever := s.outcome(g, cause, at)
		exception, denied := exceptions.of[s.Connection], exceptions.denied[s.Connection]
		switch {
		case exceptions.history[s.Connection] != nil:
			h := exceptions.history[s.Connection]
			o = Outcome{Cause: CauseHistory, At: stampTime(h.at)}
		case exception != nil && (o.Cause == cause || o.Cause == CauseLeftBefore || o.Cause == CauseEnded):
			o = Outcome{Cause: exception.reason, At: stampTime(exception.at), ToldGap: s.hearsGaps && exception.reason == LostOldest}
			if s.over != nil {
				o.Reason, o.Code = s.over.cause, s.over.code
			}
		case o.Cause == CauseWritten && waiting && s.owner != nil && s.owner.Waits():
			o.Cause = CauseWaiting
		case o.Cause == CauseNotReceived && s.hearsGaps:
			o.ToldGap = v.toldGap(g, at)
		case denied != nil && o.Cause == CauseNotJoined:
			o.Cause, o.Reason, o.At, ever = CauseDenied, denied.reason, stampTime(denied.at), true
		}
		if !ever && v.q.User == "" && o.Cause != CauseHistory { // it has nothing to do with the group
			continue
		}
		o.Group, o.ConnectionID, o.UserID = g.Name(), s.id, s.user
		found = append(found, o)
	}
	return found
}

// toldGap reports whether the members of a group were told of a gap after a time.
func (v *view) toldGap(g event.Group, at int64) bool {
	for i := range v.records {
		if s := &v.records[i]; s.kind == kindGap && s.group == g && s.at >= at-int64(slack) {
			return true
		}
	}
	return false
}

// outcome says what a connection had to do with a group at a time. ever says that it was a member
// at some time.
func (s *stay) outcome(g event.Group, cause string, at int64) (o Outcome, ever bool) {
	var before, behind *membership
	over := s.over != nil && s.over.at < at // nothing is queued after the end
	for i := range s.groups {
		m := &s.groups[i]
		switch {
		case m.group != g:
		case !over && m.from <= at && (m.to == 0 || m.to >= at):
			return Outcome{Cause: cause}, true
		case over, m.to != 0 && m.to < at:
			before = m
		case behind == nil:
			behind = m
		}
	}
	ever = before != nil || behind != nil
	switch {
	case over:
		o = Outcome{Cause: CauseEnded, At: stampTime(s.over.at), Reason: s.over.cause, Code: s.over.code}
	case s.opened > at:
		o = Outcome{Cause: CauseLater, At: stampTime(s.opened)}
	case behind != nil:
		o = Outcome{Cause: CauseJoinedLater, At: stampTime(behind.from)}
	case before != nil:
		o = Outcome{Cause: CauseLeftBefore, At: stampTime(before.to)}
	default:
		o = Outcome{Cause: CauseNotJoined, Groups: s.groupsAt(at)}
	}
	return o, ever
}

// maxGroups is how many groups of a connection an outcome names.
const maxGroups = 10

// groupsAt returns the names of the groups of a connection at a time.
func (s *stay) groupsAt(at int64) (names []string) {
	for _, m := range s.groups {
		if m.from <= at && (m.to == 0 || m.to >= at) && len(names) < maxGroups {
			names = append(names, m.group.Name())
		}
	}
	return names
}

// exceptions are what happened to connections.
type exceptions struct {
	of      map[*Connection]*seen // they lost the event
	history map[*Connection]*seen // they got it from the history
	denied  map[*Connection]*seen // they were not allowed to join the group
}

// exceptions finds what happened to the event at connections.
func (v *view) exceptions(g event.Group) exceptions {
	ex := exceptions{of: make(map[*Connection]*seen), history: make(map[*Connection]*seen), denied: make(map[*Connection]*seen)}
	for i := range v.records {
		s := &v.records[i]
		switch {
		case s.group != g:
		case s.kind == kindLost && s.contains(v.q.Position):
			if s.reason == LostHistory {
				ex.history[s.conn] = s
			} else {
				ex.of[s.conn] = s
			}
		case s.kind == kindHistory && s.contains(v.q.Position):
			ex.history[s.conn] = s
		case s.kind == kindDenied:
			ex.denied[s.conn] = s
		}
	}
	return ex
}

// refusals returns the handshakes that were refused since.
func (v *view) refusals() (found []Outcome) {
	from := v.q.from().UnixNano()
	for i := range v.records {
		if s := &v.records[i]; s.kind == kindRefused && s.until >= from && (v.q.User == "" || s.conn.user == v.q.User) {
			found = append(found, Outcome{Cause: CauseRefused, UserID: s.conn.user, At: stampTime(s.at), Reason: s.reason, Events: s.count})
		}
	}
	return found
}

// passed returns a record as part of an answer.
func (s *seen) passed() Passed {
	return Passed{
		Group: s.group.Name(), From: stampTime(s.at), To: stampTime(s.until), Events: s.count, Members: s.members, Offered: s.count * s.members,
		Written: s.written, Lost: s.lost, SlowestSeconds: s.slowest.Seconds(),
	}
}

func (s *seen) dropped() Dropped {
	return Dropped{Group: s.group.Name(), Reason: s.reason, Events: s.count, From: stampTime(s.at), To: stampTime(s.until)}
}
