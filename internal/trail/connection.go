package trail

import (
	"slices"

	"orgcast/internal/event"
)

// Connection is what the trail remembers of one connection: while it is open, and then as long as a
// record is about it.
type Connection struct {
	// Set by [Trail.Connect], and not changed after that.
	ring      *ring
	id, user  string
	hearsGaps bool

	// Guarded by the ring's mu.
	opened         int64
	over           *end // nil while it is open
	owner          Owner
	groups         []membership
	older, younger *Connection // neighbors in the list of the open ones
	chargedIn      *chunk      // which counts it
	lost           []placed    // about events that it did not get since something was written to it
	denied         *record     // the newest about a group that it was not allowed to join
}

// placed is a record that may be extended while its chunk is there.
type placed struct {
	*record

	in *chunk
}

// maxPlaced is how many records of a connection may be extended: one for each of some groups.
const maxPlaced = 4

// end is how a connection ended.
type end struct {
	at    int64
	cause string
	code  int
}

// membership is one stay in a group.
type membership struct {
	group    event.Group
	from, to int64 // stamps; to is zero while it lasts
}

// maxPast is how many memberships that have ended are remembered of a connection.
const maxPast = 16

// Why a connection did not get events. Reasons of dropped events are those of their metric.
const (
	LostHistory  = "history"      // it got them from the history
	LostClosing  = "closing"      // it was being closed
	LostLeft     = "left"         // it left the group
	LostConsumer = "consumer"     // its consumer kept them back
	LostWrite    = "write_failed" // the write was not completed
	LostOldest   = "drop_oldest"  // the oldest gave way, because its queue was full
	LostLatest   = "latest"       // newer ones of the same type took their place
	LostTooSlow  = "too_slow"     // its queue was full, so it was closed
	DropIntake   = "intake_full"  // too much of the organization waited on the node
	DropRate     = "organization_rate"
	DropRepeated = "repeated"
	DropUnwanted = "unwanted"
)

// Why members were told of a gap.
const (
	GapUnread      = "history_unread"     // the history could not be read
	GapIncomplete  = "history_incomplete" // the history no longer had all missed events
	GapNotRecorded = "not_recorded"       // missed events may not have been recorded
	GapUnlocated   = "position_unknown"   // it was not known from where on events were missed
	GapHistoryLost = "history_lost"       // positions began again
	GapRepeated    = "repeated"
	GapIntake      = "intake_full"
	// GapChannelLayer: events of a Django site's channel layer may have been lost.
	GapChannelLayer = "channel_layer"
)

// Joined notes that the connection is a member of a group from now on.
func (c *Connection) Joined(g event.Group) {
	if c == nil {
		return
	}
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	c.groups = append(c.groups, membership{group: g, from: c.ring.stamp()})
}

// Left notes the end of that.
func (c *Connection) Left(g event.Group) {
	if c == nil {
		return
	}
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	past := 0
	for i := range c.groups {
		if m := &c.groups[i]; m.group == g && m.to == 0 {
			m.to = c.ring.stamp()
		}
		if c.groups[i].to != 0 {
			past++
		}
	}
	if past > maxPast {
		i := slices.IndexFunc(c.groups, func(m membership) bool { return m.to != 0 })
		c.groups = slices.Delete(c.groups, i, i+1)
	}
}

// Ended notes the end of the connection. The cause has a short, stable name.
func (c *Connection) Ended(cause string, code int) {
	if c == nil {
		return
	}
	r := c.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.over != nil {
		return
	}
	c.owner = nil
	rec := r.add(kindEnded, event.Group{})
	c.over = &end{at: rec.at, cause: cause, code: code}
	c.groups = slices.Clip(c.groups)
	rec.conn, rec.reason = c, cause
	c.lost, c.denied = nil, nil
	r.charge(c)
	r.leave(c)
}

// Forget undoes [Trail.Connect] for a connection that was refused.
func (c *Connection) Forget() {
	if c == nil {
		return
	}
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	if c.over == nil {
		c.ring.leave(c)
		c.over, c.owner = &end{at: c.ring.stamp()}, nil
	}
}

// Lost notes that the connection does not get events of one group, and why. follows says that
// nothing was written to it since the last call.
func (c *Connection) Lost(events []*event.Event, reason string, follows bool) {
	if c == nil || len(events) == 0 {
		return
	}
	r, g := c.ring, events[0].Group()
	first, final := bounds(events)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !follows {
		c.lost = c.lost[:0]
	}
	for _, rec := range c.lost {
		if rec.reason == reason && rec.group == g && rec.first.IsZero() == first.IsZero() && !rec.in.dropped.Load() && c.extend(rec.record, events) {
			return
		}
	}
	rec := r.add(kindLost, g)
	rec.conn, rec.reason, rec.first, rec.final, rec.count = c, reason, first, final, uint32(len(events)) //nolint:gosec // a queue has fewer
	if reason == LostLatest || reason == LostConsumer {
		rec.list(events)
		r.chargeBytes(listBytes + maxListed*positionBytes)
	}
	if len(c.lost) == maxPlaced {
		c.lost = slices.Delete(c.lost, 0, 1)
	}
	c.lost = append(c.lost, placed{rec, r.tail})
	r.charge(c)
}

const (
	// maxListed is how many positions a record lists.
	maxListed = 32
	// positionBytes is the size of a position, and listBytes that of a list besides its positions.
	positionBytes, listBytes = 16, 24
)

// extend adds further events to the record of lost ones, if there is room.
func (c *Connection) extend(rec *record, events []*event.Event) bool {
	if rec.more != nil {
		if len(rec.more.list)+len(events) > maxListed {
			return false
		}
		rec.list(events)
	}
	if first, final := bounds(events); !first.IsZero() {
		rec.first, rec.final = earlier(rec.first, first), later(rec.final, final)
	}
	rec.count += uint32(len(events)) //nolint:gosec // a queue has fewer
	rec.until = max(rec.until, c.ring.clock(c.ring.trail.now()))
	return true
}

// list adds positions to the list of a record.
func (rec *record) list(events []*event.Event) {
	if rec.more == nil {
		rec.more = &positions{make([]event.Position, 0, maxListed)}
	}
	for _, e := range events {
		if !e.Position().IsZero() {
			rec.more.list = append(rec.more.list, e.Position())
		}
	}
}

func earlier(p, q event.Position) event.Position {
	if q.Compare(p) < 0 {
		return q
	}
	return p
}

func later(p, q event.Position) event.Position {
	if q.Compare(p) > 0 {
		return q
	}
	return p
}

// History notes that the connection got recorded events of a group from its history. complete says
// that it was told that none was missing before them, or did not ask.
func (c *Connection) History(g event.Group, events []*event.Event, complete bool) {
	if c == nil {
		return
	}
	r := c.ring
	first, final := bounds(events)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.add(kindHistory, g)
	rec.conn, rec.first, rec.final, rec.count, rec.complete = c, first, final, uint32(len(events)), complete //nolint:gosec // a history has fewer
	r.charge(c)
}

// Denied notes that the connection was not allowed to join a group. The reason is the code that its
// client was told. Repetitions of the last one take no room, since clients can cause any number.
func (c *Connection) Denied(g event.Group, reason string) {
	if c == nil {
		return
	}
	r := c.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := c.denied; rec != nil && rec.group == g && rec.reason == reason {
		rec.count++
		rec.until = r.clock(r.trail.now())
		return
	}
	rec := r.add(kindDenied, g)
	rec.conn, rec.reason, rec.count = c, reason, 1
	c.denied = rec
	r.charge(c)
}
