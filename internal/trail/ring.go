package trail

import (
	"sync"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// ring holds the records of one organization, and its connections.
type ring struct {
	trail *Trail
	org   orgctx.ID

	mu sync.Mutex // never held during I/O or a call of anything but the trail
	// latest is the newest stamp: records and changes of memberships have a total order.
	latest int64
	tail   *chunk      // to which records are added
	conns  *Connection // the newest of a list of the open ones

	// Guarded by the trail's mu.
	used           int
	open           int // connections
	oldest, newest *chunk
	reaches        time.Time // since when everything is remembered, unless the oldest record is younger
	cut            bool      // records were dropped
}

// kind is what a record is about.
type kind uint8

const (
	kindPassed  kind = iota + 1 // events were offered to the members of their group
	kindDropped                 // events were dropped before that
	kindGap                     // members were told of a gap
	kindLost                    // a connection did not get events
	kindHistory                 // a connection got events of a history
	kindEnded                   // a connection ended
	kindDenied                  // a connection was not allowed to join a group
	kindRefused                 // a handshake was refused
)

// record is one decision. Every event that is not merged has one, so it takes 128 bytes.
type record struct {
	at, until    int64 // stamps; until is that of the last event that was added
	group        event.Group
	first, final event.Position // zero for transient events
	reason       string
	conn         *Connection
	more         *positions // if it is not nil, these events and no others
	tally        event.Tally
	count        uint32 // events
	members      uint32
	kind         kind
	complete     bool // kindHistory: nothing was missing before the events
}

// positions are those of events, in order.
type positions struct{ list []event.Position }

// mergeFor is how long a record takes further events.
const mergeFor = time.Second

// extends reports whether an event may be added to the record, and adds its position and time.
func (rec *record) extends(k kind, g event.Group, reason string, position event.Position, now int64) bool {
	if rec.kind != k || rec.group != g || rec.reason != reason || rec.count >= 1<<16 || rec.first.IsZero() != position.IsZero() ||
		now-rec.at > int64(mergeFor) || position.Compare(rec.final) < 0 {
		return false
	}
	rec.final, rec.until = position, max(now, rec.until)
	return true
}

// clock returns the Unix nanoseconds of a time, which are not below the last stamp.
func (r *ring) clock(now time.Time) int64 { return max(now.UnixNano(), r.latest) }

// stamp returns a time that comes after all earlier ones. r.mu is held.
func (r *ring) stamp() int64 {
	r.latest = max(r.trail.now().UnixNano(), r.latest+1)
	return r.latest
}

// add appends a record. r.mu is held.
func (r *ring) add(k kind, g event.Group) *record {
	if r.tail == nil || len(r.tail.records) == cap(r.tail.records) || r.tail.dropped.Load() {
		r.tail = r.trail.extend(r)
	}
	n := len(r.tail.records)
	r.tail.records = r.tail.records[:n+1]
	rec := &r.tail.records[n]
	rec.kind, rec.group = k, g
	rec.at = r.stamp()
	rec.until = rec.at
	return rec
}

// last returns the newest record if nothing has happened since, else nil. r.mu is held.
func (r *ring) last() *record {
	if r.tail == nil || len(r.tail.records) == 0 {
		return nil
	}
	rec := &r.tail.records[len(r.tail.records)-1]
	if rec.until != r.latest && rec.at != r.latest {
		return nil
	}
	return rec
}

// passed notes events that are offered to members, and returns what counts their deliveries. r.mu
// is held.
func (r *ring) passed(events []*event.Event, members int) *event.Tally {
	g, first, final := events[0].Group(), events[0].Position(), events[len(events)-1].Position()
	rec := r.last()
	if rec != nil && int(rec.members) == members && first.Compare(rec.final) >= 0 && rec.extends(kindPassed, g, "", final, r.clock(r.trail.now())) {
		rec.count += uint32(len(events)) //nolint:gosec // a turn has fewer
		r.latest = rec.until
		return &rec.tally
	}
	rec = r.add(kindPassed, g)
	rec.count, rec.members = uint32(len(events)), uint32(members) //nolint:gosec // likewise
	rec.first, rec.final = first, final
	if first.IsZero() != final.IsZero() { // transient and recorded ones: the range holds for the latter
		rec.first, rec.final = bounds(events)
	}
	return &rec.tally
}

// bounds returns the first and the last position of recorded events among others.
func bounds(events []*event.Event) (first, final event.Position) {
	for _, e := range events {
		switch p := e.Position(); {
		case p.IsZero():
		case first.IsZero():
			first, final = p, p
		default:
			final = p
		}
	}
	return first, final
}

// charge counts what a record makes the tail remember of a connection. r.mu is held.
func (r *ring) charge(c *Connection) {
	if c.chargedIn == r.tail {
		return
	}
	c.chargedIn = r.tail
	r.chargeBytes(connectionBytes + len(c.id) + len(c.user) + membershipBytes*cap(c.groups))
}

// chargeBytes counts bytes that the tail takes in addition. r.mu is held.
func (r *ring) chargeBytes(bytes int) {
	r.trail.mu.Lock()
	defer r.trail.mu.Unlock()
	if !r.tail.dropped.Load() {
		r.trail.count(r.tail, bytes)
	}
}

// enter adds an open connection, for which the ring is occupied. r.mu is held.
func (r *ring) enter(c *Connection) {
	if c.older = r.conns; c.older != nil {
		c.older.younger = c
	}
	r.conns = c
}

// leave removes an open connection. r.mu is held.
func (r *ring) leave(c *Connection) {
	if c.younger == nil {
		r.conns = c.older
	} else {
		c.younger.older = c.older
	}
	if c.older != nil {
		c.older.younger = c.younger
	}
	c.older, c.younger = nil, nil
	r.trail.vacate(r)
}
