// Package lease repeatedly checks whether open connections may stay. A connection was admitted
// because of a session, a membership and an active organization. Any of them can end while the
// connection is open, and then the connection must end too:
//
//   - shortly after an announcement on the control channel ([Control]);
//   - within one period without one, because [Keeper] asks session store and directory again;
//   - at a deadline, if nothing can confirm them, because an unconfirmed connection may not stay.
//
// [Revoker] is the other side: it changes the record and announces the change.
package lease

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/directory"
	"orgcast/internal/session"
)

// Causes with which a Keeper ends connections, in addition to [UnconfirmedError].
var (
	// ErrSessionEnded ends the connections of a session that was ended or has expired.
	ErrSessionEnded = errors.New("lease: session ended")
	// ErrSessionStale ends connections that came with an expired copy of a session. The session
	// itself may still be valid, and the browser may come back with a newer copy.
	ErrSessionStale = errors.New("lease: this copy of the session has expired")
	// ErrSwitched ends the connections of a session whose active organization has changed.
	ErrSwitched = errors.New("lease: another organization became active")
	// ErrNotAllowed ends connections whose user, membership or organization is no longer active.
	ErrNotAllowed = errors.New("lease: user, membership or organization is no longer active")
	// ErrRoleChanged ends connections whose user now has another role, so that they reconnect with
	// it.
	ErrRoleChanged = errors.New("lease: role changed")
)

// UnconfirmedError ends connections that could not be confirmed in time.
type UnconfirmedError struct {
	// RetryAfter is when the client may reconnect. It varies, so that clients do not all reconnect
	// at once.
	RetryAfter time.Duration
}

// Error implements error.
func (UnconfirmedError) Error() string { return "lease: not confirmed in time" }

// Is makes all UnconfirmedErrors match each other in errors.Is, whatever their time.
func (UnconfirmedError) Is(target error) bool {
	_, ok := target.(UnconfirmedError)
	return ok
}

// Delay returns RetryAfter.
func (e UnconfirmedError) Delay() time.Duration { return e.RetryAfter }

// Holder is an open connection. Its methods do not block, and are safe for concurrent use, even
// after its end.
type Holder interface {
	// Identity returns the identity with which the connection was admitted.
	Identity() session.Identity
	// Renew sets a new end of the session.
	Renew(expires time.Time)
	// End ends the connection, unless it has ended already.
	End(cause error)
}

// Lease is a Keeper's data about a connection. The connection contains it by value. The zero Lease
// is ready for [Keeper.Add]. The Keeper's mu guards it.
type Lease struct {
	holder    Holder // nil unless the lease is held
	ticket    string
	confirmed time.Time // when the last confirmation was asked for
	ended     bool      // End was called
	doubted   bool      // it is in the Keeper's list doubted
	slot      int32
	index     int32  // in the slot
	known     uint32 // if ended: when its end became known, in milliseconds since the Keeper's start
	links     [indexes]link
}

// link links a lease into the list of leases with the same session, user or organization.
type link struct{ previous, next *Lease }

// Indexes of a Keeper.
const (
	bySession = iota
	byUser
	byOrganization
	indexes
)

// Directory tells whether users may act for organizations. Package directory implements it.
type Directory interface {
	AdmitAll(ctx context.Context, list []directory.Membership) []directory.Admission
}

// Defaults of [Options].
const (
	DefaultPeriod   = 5 * time.Second
	DefaultDeadline = 30 * time.Second
)

// Options are the options of [NewKeeper].
type Options struct {
	// Sessions and Directory are required.
	Sessions  session.Store
	Directory Directory
	// Period is the time in which every connection is checked once. Default [DefaultPeriod].
	Period time.Duration
	// Deadline is how long a connection may stay without confirmation. It must be longer than
	// Period. Default [DefaultDeadline].
	Deadline time.Duration
	// Log and Registerer may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// slotCount is the number of parts of a period, over which the checks are spread.
const slotCount = 20

// recentLimit is how many messages are remembered for handshakes in progress.
const recentLimit = 1024

// Keeper holds the leases of a node's connections. Its methods are safe for concurrent use.
type Keeper struct {
	opt     Options // set by NewKeeper, as are the next ones
	log     *zap.Logger
	metrics *metrics
	started time.Time
	seed    maphash.Seed
	wake    chan struct{} // wakes check; capacity 1: one wake-up covers all earlier ones
	retimed chan struct{} // wakes tick when SetTimes was called; capacity 1 for the same reason
	times   atomic.Pointer[times]

	mu    sync.Mutex
	index [indexes]map[string]*Lease // the first of each list
	slots [slotCount]slot
	turn  int // the slot that is due next
	// Leases to check before any slot. They may have been released since.
	doubted []*Lease
	// Recent announcements, for connections that were admitted before an announcement and added
	// after it.
	recent []Message
	heard  Mark // number of the last message in recent
}

// slot holds the connections that are checked at the same time.
type slot struct {
	leases []*Lease
	due    bool
	oldest time.Time // no lease in the slot was confirmed earlier; may be too early, never too late
}

func (o Options) withDefaults() Options {
	o.Period = cmp.Or(o.Period, DefaultPeriod)
	o.Deadline = cmp.Or(o.Deadline, DefaultDeadline)
	o.Log = cmp.Or(o.Log, zap.NewNop())
	return o
}

func (o Options) validate() error {
	switch {
	case o.Sessions == nil || o.Directory == nil:
		return errors.New("lease: Sessions and Directory must be set")
	case o.Period < 0 || o.Deadline <= o.Period:
		return errors.New("lease: Deadline must be longer than Period")
	}
	return nil
}

// Mark is a moment in the sequence of announcements.
type Mark uint64

// NewKeeper returns a Keeper, which works while [Keeper.Run] runs.
func NewKeeper(o Options) (*Keeper, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	k := &Keeper{
		opt: o, log: o.Log.Named("lease"), metrics: newMetrics(o.Registerer), started: time.Now(), seed: maphash.MakeSeed(),
		wake: make(chan struct{}, 1), retimed: make(chan struct{}, 1),
	}
	k.SetTimes(o.Period, o.Deadline)
	for i := range k.index {
		k.index[i] = make(map[string]*Lease)
	}
	return k, nil
}

// Mark returns the current moment. Call it before the identity of a connection is determined, and
// pass the result to [Keeper.Add].
func (k *Keeper) Mark() (Mark, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.heard, time.Now()
}

// Ticket returns the part of the handshake that [Keeper.Add] needs.
func (k *Keeper) Ticket(r *http.Request) string { return k.opt.Sessions.Ticket(r) }

// Add adds a connection that was admitted by answers of the stores since the mark. If its session
// or membership has been revoked in between, Add returns the cause and does not hold the
// connection.
func (k *Keeper) Add(l *Lease, h Holder, ticket string, since Mark, at time.Time) error {
	id := h.Identity()
	k.mu.Lock()
	defer k.mu.Unlock()
	again := since+Mark(len(k.recent)) < k.heard // more were announced than are remembered
	for i, m := range k.recent {
		if k.heard-Mark(len(k.recent))+Mark(i) < since {
			continue
		}
		again = again || m.Type == typeMissed
		if cause := m.cause(id); cause != nil {
			k.metrics.ended(cause, byAnnouncement)
			return cause
		}
	}
	*l = Lease{holder: h, ticket: ticket, confirmed: at, slot: k.slotOf(id)}
	for i := range k.index {
		k.insert(i, keyOf(i, id), l)
	}
	s := &k.slots[l.slot]
	if len(s.leases) == 0 || at.Before(s.oldest) {
		s.oldest = at
	}
	l.index = int32(len(s.leases)) //nolint:gosec // there are fewer connections
	s.leases = append(s.leases, l)
	if again {
		s.due = true
		k.rouse()
	}
	return nil
}

// slotOf gives all connections of a user the same slot, so that they are checked together.
func (k *Keeper) slotOf(id session.Identity) int32 {
	return int32(maphash.String(k.seed, id.UserID) % slotCount)
}

// Remove removes a connection whose socket is closed, if it is held.
func (k *Keeper) Remove(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.holder == nil {
		return
	}
	if l.ended {
		k.metrics.closed(time.Duration(k.clock(time.Now())-l.known) * time.Millisecond)
	}
	id := l.holder.Identity()
	for i := range k.index {
		k.remove(i, keyOf(i, id), l)
	}
	s := &k.slots[l.slot]
	last := len(s.leases) - 1
	s.leases[l.index] = s.leases[last]
	s.leases[l.index].index = l.index
	s.leases[last] = nil
	s.leases = s.leases[:last]
	*l = Lease{}
}

// keyOf returns the key of an identity in an index.
func keyOf(index int, id session.Identity) string {
	switch index {
	case bySession:
		return id.SessionID
	case byUser:
		return id.UserID
	default:
		return id.Organization.String() // also "", as such a session can be switched
	}
}

// insert puts a lease first in its list. Its caller holds mu.
func (k *Keeper) insert(i int, key string, l *Lease) {
	first := k.index[i][key]
	l.links[i].next = first
	if first != nil {
		first.links[i].previous = l
	}
	k.index[i][key] = l
}

// remove takes a lease from its list. Its caller holds mu.
func (k *Keeper) remove(i int, key string, l *Lease) {
	at := &l.links[i]
	if at.next != nil {
		at.next.links[i].previous = at.previous
	}
	switch {
	case at.previous != nil:
		at.previous.links[i].next = at.next
	case at.next != nil:
		k.index[i][key] = at.next
	default:
		delete(k.index[i], key)
	}
}

// Held returns how many connections are held.
func (k *Keeper) Held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for i := range k.slots {
		n += len(k.slots[i].leases)
	}
	return n
}

// Apply ends the connections that an announcement affects. It returns their number.
func (k *Keeper) Apply(m Message) int {
	heard := time.Now()
	k.metrics.messages.WithLabelValues(string(m.Type)).Inc()
	var list []ending
	index, key := m.place()
	k.mu.Lock()
	k.remember(m)
	for l := k.index[index][key]; l != nil; l = l.links[index].next {
		if cause := m.cause(l.holder.Identity()); cause != nil {
			list = append(list, ending{l, cause})
		}
	}
	k.mu.Unlock()
	return k.end(list, byAnnouncement, heard)
}

// ending is a lease that must end, and the cause.
type ending struct {
	lease *Lease
	cause error
}

// end ends connections, unless they have ended already, and returns how many it ended. known is when
// the Keeper learned that they must end.
func (k *Keeper) end(list []ending, by string, known time.Time) int {
	if len(list) == 0 {
		return 0
	}
	holders := make([]Holder, len(list)) // nil for those that have ended already
	k.mu.Lock()
	for i, e := range list {
		if !e.lease.ended {
			holders[i], e.lease.ended, e.lease.known = e.lease.holder, true, k.clock(known)
		}
	}
	k.mu.Unlock()
	n := 0
	for i, h := range holders {
		if h != nil {
			k.metrics.ended(list[i].cause, by)
			h.End(list[i].cause)
			n++
		}
	}
	return n
}

// Missed says that announcements may have been lost. All connections are then checked at once.
func (k *Keeper) Missed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(Message{Type: typeMissed})
	for i := range k.slots {
		k.slots[i].due = true
	}
	k.rouse()
}

// remember keeps a message for handshakes in progress. Its caller holds mu.
func (k *Keeper) remember(m Message) {
	if len(k.recent) == recentLimit {
		k.recent = append(k.recent[:0], k.recent[recentLimit/2:]...)
	}
	k.recent = append(k.recent, m)
	k.heard++
}

// rouse wakes check to look for due slots.
func (k *Keeper) rouse() {
	select {
	case k.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}
