package trail

import (
	"slices"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Query asks what became of events of one organization. With a position it is about that event,
// else about everything since a time.
type Query struct {
	Organization orgctx.ID
	// Group and User narrow the question down if they are not empty.
	Group, User string
	Position    event.Position
	Since       time.Time
}

// Answer is what one node remembers.
type Answer struct {
	// Now is the node's time. Everything since Reaches is remembered.
	Now     time.Time `json:"now"`
	Reaches time.Time `json:"reaches"`
	// Off says that the node remembers nothing, by its settings.
	Off bool `json:"off,omitempty"`
	// Open is how many connections of the organization are open, those of the user if there is one.
	Open    int       `json:"open"`
	Passed  []Passed  `json:"passed,omitempty"`
	Dropped []Dropped `json:"dropped,omitempty"`
	Gaps    []Gap     `json:"gaps,omitempty"`
	Outages []Outage  `json:"outages,omitempty"`
	// Outcomes say what became of the events at connections, at most [MaxOutcomes]. Counts are of
	// all, by cause.
	Outcomes []Outcome      `json:"outcomes,omitempty"`
	Counts   map[string]int `json:"counts,omitempty"`
}

// MaxOutcomes bounds the outcomes of one answer. Those that tell most come first.
const MaxOutcomes = 500

// maxListedDecisions bounds each of the other lists of an answer: the newest.
const maxListedDecisions = 100

// Passed says that events were offered to the members of their group.
type Passed struct {
	Group string    `json:"group"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	// Events is how many events, and Members to how many connections each of them was offered. If
	// that changed, it is the most.
	Events  int `json:"events"`
	Members int `json:"members"`
	// Offered is how many deliveries that makes. Those that are neither written nor lost wait.
	Offered        int     `json:"offered"`
	Written        int     `json:"written"`
	Lost           int     `json:"lost"`
	SlowestSeconds float64 `json:"slowest_seconds"`
}

// Dropped says that events were dropped before they reached anyone.
type Dropped struct {
	Group  string    `json:"group"`
	Reason string    `json:"reason"`
	Events int       `json:"events"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
}

// Gap says that the members of a group were told that events may have been lost.
type Gap struct {
	Group  string    `json:"group"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Causes of an [Outcome], in addition to the reasons of lost and dropped events.
const (
	CauseWritten     = "written"
	CauseHistory     = "history"
	CauseWaiting     = "waiting"
	CauseNotReceived = "not_received"
	CauseDropped     = "dropped"
	CauseJoinedLater = "joined_later"
	CauseLeftBefore  = "left_before"
	CauseNotJoined   = "not_joined"
	CauseDenied      = "denied"
	CauseLater       = "connected_later"
	CauseEnded       = "ended"
	CauseRefused     = "refused"
)

// Outcome is what became of events at one connection, or why it was not asked.
type Outcome struct {
	Cause        string `json:"cause"`
	Group        string `json:"group,omitempty"`
	ConnectionID string `json:"connection_id,omitempty"`
	UserID       string `json:"user_id,omitempty"`
	// At is when that was decided, if it was.
	At time.Time `json:"at,omitzero"`
	To time.Time `json:"to,omitzero"`
	// Events is how many events it is about, if there may be several.
	Events int `json:"events,omitempty"`
	// ToldGap says that the client is told of a gap instead of the event.
	ToldGap bool `json:"told_gap,omitempty"`
	// Reason and Code say why a connection ended, a handshake was refused, or a group denied.
	Reason string `json:"reason,omitempty"`
	Code   int    `json:"code,omitempty"`
	// Groups are those that it was in, if it was not in the one that is asked about.
	Groups []string `json:"groups,omitempty"`
}

// Ask returns what this node remembers. It never contains anything about another organization.
func (t *Trail) Ask(q Query) Answer {
	if t == nil {
		return Answer{Now: time.Now().UTC(), Off: true}
	}
	a := Answer{Now: t.now().UTC()}
	r := t.find(q.Organization)
	t.mu.Lock()
	a.Reaches = t.started
	if !t.forgotten.IsZero() {
		a.Reaches = t.forgotten
	}
	if r != nil {
		a.Reaches = r.reaches
	}
	for _, o := range t.outages {
		if o.To.IsZero() || o.To.After(q.from()) {
			a.Outages = append(a.Outages, o)
		}
	}
	t.mu.Unlock()
	if r != nil {
		v := r.view(q)
		if v.oldest != 0 { // what was dropped is older
			if at := time.Unix(0, v.oldest); at.Before(a.Reaches) && v.cut {
				a.Reaches = at
			}
		}
		v.answer(&a)
	}
	a.Reaches = a.Reaches.UTC()
	return a
}

// slack is how far the clock of Redis may be ahead of the node's.
const slack = time.Minute

// from returns the time before which nothing matters.
func (q Query) from() time.Time {
	if q.Position.IsZero() {
		return q.Since
	}
	return q.recorded().Add(-slack)
}

// recorded returns when the event was recorded.
func (q Query) recorded() time.Time {
	return time.UnixMilli(int64(q.Position.Milliseconds())) //nolint:gosec // as Redis means it
}

// seen is a record as it was when it was read.
type seen struct {
	at, until     int64
	group         event.Group
	first, final  event.Position
	reason        string
	conn          *Connection
	more          []event.Position
	count         int
	members       int
	written, lost int
	slowest       time.Duration
	kind          kind
	complete      bool
}

// contains reports whether a record is about the event at a position.
func (s *seen) contains(p event.Position) bool {
	if s.more != nil {
		return slices.Contains(s.more, p)
	}
	return !s.first.IsZero() && s.first.Compare(p) <= 0 && p.Compare(s.final) <= 0
}

// stay is a connection as it was when it was read.
type stay struct {
	*Connection

	groups []membership
	over   *end
	owner  Owner
	open   bool
}

// view is what a ring held when a question came.
type view struct {
	q       Query
	records []seen
	stays   []stay
	at      map[*Connection]int // the place of each in stays
	oldest  int64
	cut     bool
}

// view reads a ring.
func (r *ring) view(q Query) *view {
	v := &view{q: q, at: make(map[*Connection]int)}
	r.mu.Lock()
	defer r.mu.Unlock()
	var chunks []*chunk
	r.trail.mu.Lock()
	for c := r.oldest; c != nil; c = c.newer {
		chunks = append(chunks, c)
	}
	v.cut = r.cut
	r.trail.mu.Unlock()
	for c := r.conns; c != nil; c = c.older {
		v.meet(c)
	}
	for _, c := range chunks {
		for i := range c.records {
			rec := &c.records[i]
			if v.oldest == 0 {
				v.oldest = rec.at
			}
			var more []event.Position
			if rec.more != nil {
				more = slices.Clone(rec.more.list)
			}
			written, lost, slowest := rec.tally.Counts()
			v.records = append(v.records, seen{
				at: rec.at, until: rec.until, group: rec.group, first: rec.first, final: rec.final, reason: rec.reason, conn: rec.conn,
				more: more, count: int(rec.count), members: int(rec.members), written: int(written), lost: int(lost),
				slowest: slowest, kind: rec.kind, complete: rec.complete,
			})
			if rec.conn != nil && rec.kind != kindRefused {
				v.meet(rec.conn)
			}
		}
	}
	return v
}

// meet adds a connection to the view, whose caller reads the ring.
func (v *view) meet(c *Connection) {
	if _, ok := v.at[c]; ok {
		return
	}
	v.at[c] = len(v.stays)
	v.stays = append(v.stays, stay{Connection: c, groups: slices.Clone(c.groups), over: c.over, owner: c.owner, open: c.over == nil})
}

// time returns the time of a stamp.
func stampTime(at int64) time.Time { return time.Unix(0, at).UTC() }

// wants reports whether the question is about a group.
func (v *view) wants(g event.Group) bool { return v.q.Group == "" || g.Name() == v.q.Group }

// answer fills in what the view has to say.
func (v *view) answer(a *Answer) {
	for i := range v.stays {
		if s := &v.stays[i]; s.open && (v.q.User == "" || s.user == v.q.User) {
			a.Open++
		}
	}
	var found []Outcome
	if v.q.Position.IsZero() {
		found = v.window(a)
	} else {
		found = v.event(a)
	}
	a.Counts = make(map[string]int)
	for _, o := range found {
		a.Counts[o.Cause]++
	}
	slices.SortStableFunc(found, func(x, y Outcome) int { return weight(x.Cause) - weight(y.Cause) })
	a.Outcomes = found[:min(len(found), MaxOutcomes)]
	a.Passed = newest(a.Passed)
	a.Dropped = newest(a.Dropped)
	a.Gaps = newest(a.Gaps)
}

// newest returns the last elements of a list that may be too long.
func newest[T any](list []T) []T { return list[max(0, len(list)-maxListedDecisions):] }

// weight orders causes: those that tell most come first.
func weight(cause string) int {
	switch cause {
	case CauseWritten:
		return 2
	case CauseNotJoined, CauseHistory, CauseLater:
		return 1
	default:
		return 0
	}
}
