package trail

import "orgcast/internal/event"

// window says what happened since a time.
func (v *view) window(a *Answer) (found []Outcome) {
	from := v.q.Since.UnixNano()
	passed := make(map[event.Group]int) // the place of a group in a.Passed
	lost := make(map[lossKey]int)       // the place in found
	for i := range v.records {
		s := &v.records[i]
		if s.until < from || !s.group.IsZero() && !v.wants(s.group) {
			continue
		}
		if s.conn != nil && v.q.User != "" && s.conn.user != v.q.User {
			continue
		}
		switch s.kind {
		case kindPassed:
			at, ok := passed[s.group]
			if !ok {
				at = len(a.Passed)
				passed[s.group] = at
				a.Passed = append(a.Passed, Passed{Group: s.group.Name(), From: stampTime(s.at)})
			}
			a.Passed[at].add(s)
		case kindDropped:
			a.Dropped = append(a.Dropped, s.dropped())
		case kindGap:
			a.Gaps = append(a.Gaps, Gap{Group: s.group.Name(), Reason: s.reason, At: stampTime(s.at)})
		case kindLost, kindHistory:
			found = v.addLoss(found, lost, s)
		case kindEnded:
			found = append(found, s.outcome(CauseEnded))
		case kindDenied:
			found = append(found, s.outcome(CauseDenied))
		case kindRefused: // see refusals
		}
	}
	found = append(found, v.refusals()...)
	if v.q.Group == "" || v.q.User == "" {
		return found
	}
	g, err := event.NewGroup(v.q.Organization, v.q.Group)
	if err != nil {
		return found
	}
	for i := range v.stays { // why the user's open connections got nothing
		s := &v.stays[i]
		if !s.open || s.user != v.q.User {
			continue
		}
		o, _ := s.outcome(g, CauseWritten, v.q.Since.UnixNano())
		if o.Cause == CauseLater && len(s.groups) > 0 {
			if now, _ := s.outcome(g, CauseWritten, a.Now.UnixNano()); now.Cause == CauseNotJoined {
				o = now
			}
		}
		if o.Cause != CauseWritten {
			o.Group, o.ConnectionID, o.UserID = v.q.Group, s.id, s.user
			found = append(found, o)
		}
	}
	return found
}

// lossKey is what lost events have in common that are told together.
type lossKey struct {
	conn   *Connection
	group  event.Group
	reason string
}

// addLoss adds lost events, or those that came from a history, to what is told of them already.
func (v *view) addLoss(found []Outcome, places map[lossKey]int, s *seen) []Outcome {
	key := lossKey{s.conn, s.group, s.reason}
	if s.kind == kindHistory {
		key.reason = CauseHistory
	}
	at, ok := places[key]
	if !ok {
		at = len(found)
		places[key] = at
		o := s.outcome(key.reason)
		o.Events, o.Reason, o.ToldGap = 0, "", s.conn.hearsGaps && s.reason == LostOldest
		found = append(found, o)
	}
	found[at].Events += s.count
	found[at].To = stampTime(s.until)
	return found
}

// outcome returns a record about a connection as part of an answer.
func (s *seen) outcome(cause string) Outcome {
	o := Outcome{
		Cause: cause, Group: s.group.Name(), ConnectionID: s.conn.id, UserID: s.conn.user, At: stampTime(s.at), To: stampTime(s.until),
		Events: s.count, Reason: s.reason,
	}
	if s.kind == kindEnded {
		o.Code, o.Events = s.conn.over.code, 0 // it does not change after the end
	}
	return o
}

// add adds a record to the sum of its group.
func (p *Passed) add(s *seen) {
	p.To = stampTime(s.until)
	p.Events += s.count
	p.Members = max(p.Members, s.members)
	p.Offered += s.count * s.members
	p.Written += s.written
	p.Lost += s.lost
	p.SlowestSeconds = max(p.SlowestSeconds, s.slowest.Seconds())
}
