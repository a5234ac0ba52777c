// Package trail remembers for a while what the node decided about the events and connections of
// each organization, so that an operator can ask later why an event did not reach a browser.
//
// What is usual costs next to nothing: events that are passed on together are one record, whose
// deliveries are counted without a lock ([event.Tally]). Only exceptions have a record for each
// connection. Nothing waits for a trail, and it calls nothing else.
//
// Records hold names, positions and times, never payloads. They are bounded in bytes, for each
// organization and for the node. The oldest give way, and answers say how far back they reach. An
// organization that causes many records displaces only its own.
//
// All methods work on a nil [Trail] and a nil [Connection], which remember nothing.
package trail

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Defaults of [Options].
const (
	DefaultBytesPerOrganization = 128 << 10
	DefaultBytes                = 64 << 20
)

// MinBytes is the least that [Options] may name: some chunks of records.
const MinBytes = 16 << 10

// Options are the options of [New].
type Options struct {
	// BytesPerOrganization bounds the records of one organization, and Bytes those of all. 0 or less
	// means that nothing is remembered. Open connections, and their groups, are remembered in
	// addition.
	BytesPerOrganization, Bytes int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Trail holds the records of a node. It is safe for concurrent use.
type Trail struct {
	perOrganization, limit int
	now                    func() time.Time
	started                time.Time

	rings sync.Map // from orgctx.ID to *ring

	mu   sync.Mutex // taken under the mu of a ring, never the other way round
	used int
	// The oldest and the newest chunk of all rings.
	oldest, newest *chunk
	// forgotten is when a ring was last forgotten as a whole.
	forgotten time.Time
	outages   []Outage // the last ones
}

// New returns a Trail, nil if the options say that nothing is remembered.
func New(o Options) *Trail {
	if o.BytesPerOrganization <= 0 || o.Bytes <= 0 {
		return nil
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Trail{perOrganization: max(o.BytesPerOrganization, MinBytes), limit: max(o.Bytes, MinBytes), now: o.Now, started: o.Now()}
}

// Used returns how many bytes the records of all organizations take.
func (t *Trail) Used() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// ringOf returns the ring of an organization, and makes one if there is none.
func (t *Trail) ringOf(org orgctx.ID) *ring {
	if r := t.find(org); r != nil {
		return r
	}
	t.mu.Lock()
	made := &ring{trail: t, org: org, reaches: t.started}
	if !t.forgotten.IsZero() {
		made.reaches = t.forgotten
	}
	t.mu.Unlock()
	stored, _ := t.rings.LoadOrStore(org, made)
	r, _ := stored.(*ring)
	return r
}

// find returns the ring of an organization, nil if there is none.
func (t *Trail) find(org orgctx.ID) *ring {
	stored, _ := t.rings.Load(org)
	r, _ := stored.(*ring)
	return r
}

// Passed notes that events of one group are offered to its members, how many there are, and has
// their deliveries counted. The caller must make sure that no member joins or leaves meanwhile, and
// that nobody has been offered the events yet.
func (t *Trail) Passed(events []*event.Event, members int) {
	if t == nil || len(events) == 0 || members == 0 {
		return
	}
	r := t.ringOf(events[0].Group().Organization())
	r.mu.Lock()
	defer r.mu.Unlock()
	tally := r.passed(events, members)
	for _, e := range events {
		e.CountIn(tally)
	}
}

// Dropped notes an event that was dropped before it reached any member. The position is zero if the
// event is transient. The reason is that of a metric.
func (t *Trail) Dropped(g event.Group, position event.Position, reason string) {
	if t == nil || g.IsZero() {
		return
	}
	r := t.ringOf(g.Organization())
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.last(); last != nil && last.extends(kindDropped, g, reason, position, r.clock(t.now())) {
		last.count++
		r.latest = last.until
		return
	}
	rec := r.add(kindDropped, g)
	rec.reason, rec.count, rec.first, rec.final = reason, 1, position, position
}

// Gap notes that the members of a group are told that events may have been lost.
func (t *Trail) Gap(g event.Group, reason string) {
	if t == nil || g.IsZero() {
		return
	}
	r := t.ringOf(g.Organization())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(kindGap, g).reason = reason
}

// Refused notes that a handshake of a known user was refused.
func (t *Trail) Refused(org orgctx.ID, user, reason string) {
	if t == nil || org.IsZero() {
		return
	}
	r := t.ringOf(org)
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Connection{ring: r, user: user}
	rec := r.add(kindRefused, event.Group{})
	rec.reason, rec.conn, rec.count = reason, c, 1
	r.charge(c)
}

// Outage is a time in which the node had no working link to a server of Redis.
type Outage struct {
	// Server is the address of the server in a Cluster, else empty.
	Server string    `json:"server,omitempty"`
	Error  string    `json:"error"`
	From   time.Time `json:"from"`
	// To is zero while the outage lasts.
	To time.Time `json:"to,omitzero"`
}

// maxOutages is how many outages are remembered.
const maxOutages = 32

// LinkLost notes that the link to a server was lost, or could not be opened.
func (t *Trail) LinkLost(server string, err error) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.outage(server); o != nil {
		return
	}
	if len(t.outages) == maxOutages {
		t.outages = append(t.outages[:0], t.outages[1:]...)
	}
	text := err.Error()
	t.outages = append(t.outages, Outage{Server: server, Error: text[:min(len(text), maxError)], From: t.now()})
}

// maxError is how many bytes of an error are remembered.
const maxError = 200

// LinkOpened notes that the link to a server works again.
func (t *Trail) LinkOpened(server string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.outage(server); o != nil {
		o.To = t.now()
	}
}

// outage returns the outage of a server that lasts, nil if there is none. t.mu is held.
func (t *Trail) outage(server string) *Outage {
	for i := range t.outages {
		if o := &t.outages[i]; o.Server == server && o.To.IsZero() {
			return o
		}
	}
	return nil
}

// chunk is a piece of a ring. Its records stay where they are, because deliveries count in them.
type chunk struct {
	ring    *ring
	records []record // guarded by the ring's mu; the capacity is fixed

	// Guarded by the trail's mu.
	cost           int
	before, behind *chunk // neighbors by age, of all rings
	newer          *chunk // the next of the ring

	dropped atomic.Bool // set under the trail's mu
}

const (
	// firstRecords is how many records the first chunk of a ring has, and chunkRecords how many the
	// others have. Those fit into 4 KiB with the 8 bytes that the allocator adds.
	firstRecords, chunkRecords = 8, 31
	// chunkBytes is what a chunk takes besides its records.
	chunkBytes = 96
)

//nolint:gochecknoglobals // constants
var (
	recordBytes     = int(reflect.TypeFor[record]().Size())
	connectionBytes = int(reflect.TypeFor[Connection]().Size() + reflect.TypeFor[end]().Size())
	membershipBytes = int(reflect.TypeFor[membership]().Size())
)

// extend appends an empty chunk to a ring. Older chunks give way to it: first those of the ring.
func (t *Trail) extend(r *ring) *chunk {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := chunkRecords
	if r.oldest == nil {
		n = firstRecords
	}
	c := &chunk{ring: r, records: make([]record, 0, n), before: t.newest}
	if t.newest == nil {
		t.oldest = c
	} else {
		t.newest.behind = c
	}
	t.newest = c
	if r.oldest == nil {
		r.oldest = c
	} else {
		r.newest.newer = c
	}
	r.newest = c
	t.count(c, chunkBytes+n*recordBytes)
	return c
}

// count adds to what a chunk takes, and has older ones give way. t.mu is held.
func (t *Trail) count(c *chunk, bytes int) {
	c.cost += bytes
	c.ring.used += bytes
	t.used += bytes
	for c.ring.used > t.perOrganization && c.ring.oldest != c {
		t.drop(c.ring.oldest)
	}
	for t.used > t.limit && t.oldest != c {
		t.drop(t.oldest)
	}
}

// drop removes a chunk, which is the oldest of its ring. t.mu is held.
func (t *Trail) drop(c *chunk) {
	r := c.ring
	if r.oldest = c.newer; r.oldest == nil {
		r.newest = nil
	}
	if c.before == nil {
		t.oldest = c.behind
	} else {
		c.before.behind = c.behind
	}
	if c.behind == nil {
		t.newest = c.before
	} else {
		c.behind.before = c.before
	}
	r.used -= c.cost
	t.used -= c.cost
	c.dropped.Store(true)
	r.reaches, r.cut = t.now(), true
	t.forget(r)
}

// forget removes a ring that has neither records nor connections. t.mu is held.
func (t *Trail) forget(r *ring) {
	if r.oldest == nil && r.open == 0 && t.rings.CompareAndDelete(r.org, r) {
		t.forgotten = t.now()
	}
}

// occupy returns the ring of an organization, which is not forgotten until the caller has vacated it.
func (t *Trail) occupy(org orgctx.ID) *ring {
	for {
		r := t.ringOf(org)
		t.mu.Lock()
		kept := t.find(org) == r
		if kept {
			r.open++
		}
		t.mu.Unlock()
		if kept {
			return r
		}
	}
}

// vacate undoes occupy.
func (t *Trail) vacate(r *ring) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.open--
	t.forget(r)
}

// Connect notes a new connection. owner says whether something waits for it; it may be nil, and
// must not call the trail.
func (t *Trail) Connect(who Client) *Connection {
	if t == nil || who.Organization.IsZero() {
		return nil
	}
	r := t.occupy(who.Organization)
	c := &Connection{ring: r, id: who.ID, user: who.User, owner: who.Owner, hearsGaps: who.HearsGaps}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.opened = r.stamp()
	r.enter(c)
	return c
}

// Client says who has a new connection.
type Client struct {
	Organization orgctx.ID
	ID, User     string
	// HearsGaps says that the client is told of gaps.
	HearsGaps bool
	Owner     Owner
}

// Owner is what a connection belongs to.
type Owner interface {
	// Waits reports whether something waits to be written. It may be called by any goroutine.
	Waits() bool
}
