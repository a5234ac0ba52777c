// Package lease keeps asking whether open connections may stay. A connection was let in because of
// a session, a membership and an active organization; each of them can end while it is open, and
// then the connection has to end too:
//
//   - within a moment of an announcement on the control channel ([Control]);
//   - within one period without one, because [Keeper] asks session store and directory again;
//   - at a deadline, if nothing can confirm them. What cannot be confirmed is not allowed.
//
// [Revoker] is the other side: it changes the record and announces it.
package lease

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"sync"
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
	// ErrSessionStale ends the connections that came with a copy of a session that has expired,
	// where the session itself may live on: the browser may come back with a newer copy.
	ErrSessionStale = errors.New("lease: this copy of the session has expired")
	// ErrSwitched ends the connections of a session whose active organization has changed.
	ErrSwitched = errors.New("lease: another organization became active")
	// ErrNotAllowed ends connections whose user, membership or organization is no longer active.
	ErrNotAllowed = errors.New("lease: user, membership or organization is no longer active")
	// ErrRoleChanged ends connections whose user has another role now, so that they come back with
	// it.
	ErrRoleChanged = errors.New("lease: role changed")
)

// UnconfirmedError ends connections that nothing could confirm in time.
type UnconfirmedError struct {
	// RetryAfter is when the client may come back; it differs, so that clients do not all come back at once.
	RetryAfter time.Duration
}

// Error implements error.
func (UnconfirmedError) Error() string { return "lease: not confirmed in time" }

// Is makes all of them equal to errors.Is, whatever the time.
func (UnconfirmedError) Is(target error) bool {
	_, ok := target.(UnconfirmedError)
	return ok
}

// Delay returns RetryAfter.
func (e UnconfirmedError) Delay() time.Duration { return e.RetryAfter }

// Holder is an open connection. Its methods do not block, may be called by several goroutines at
// once, and after its end, too.
type Holder interface {
	// Identity is what the connection was admitted with.
	Identity() session.Identity
	// Renew says that the session ends at another time than before.
	Renew(expires time.Time)
	// End ends the connection, unless it has ended.
	End(cause error)
}

// Lease is what a Keeper knows of a connection. The connection holds it by value: the zero Lease
// is ready for [Keeper.Add]. The Keeper's mu guards it.
type Lease struct {
	holder    Holder // nil unless it is held
	ticket    string
	confirmed time.Time // when what was confirmed last was asked
	ended     bool      // End was called
	doubted   bool      // it stands in the Keeper's list of that name
	slot      int32
	index     int32 // in the slot
	links     [indexes]link
}

// link places a lease in the list of those with the same session, user or organization.
type link struct{ previous, next *Lease }

// Indexes of a Keeper.
const (
	bySession = iota
	byUser
	byOrganization
	indexes
)

// Directory says whether users may act for organizations. Package directory implements it.
type Directory interface {
	AdmitAll(ctx context.Context, list []directory.Membership) []directory.Admission
}

// Defaults of [Options].
const (
	DefaultPeriod   = 5 * time.Second
	DefaultDeadline = 30 * time.Second
)

// Options of [NewKeeper].
type Options struct {
	// Sessions and Directory must be given.
	Sessions  session.Store
	Directory Directory
	// Period is the time in which every connection is asked about once. Default [DefaultPeriod].
	Period time.Duration
	// Deadline is how long a connection may stay without being confirmed. Default
	// [DefaultDeadline]. It must be longer than Period.
	Deadline time.Duration
	// Log and Registerer may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// slotCount is into how many parts a period is cut, so that the questions are spread over it.
const slotCount = 20

// recentLimit is how many messages are remembered for handshakes under way.
const recentLimit = 1024

// Keeper holds the leases of a node's connections. Its methods are safe for concurrent use.
type Keeper struct {
	// Fixed after construction.
	opt     Options
	log     *zap.Logger
	metrics *metrics
	seed    maphash.Seed
	wake    chan struct{} // for check; capacity 1: one wake-up covers all that came before it

	mu    sync.Mutex
	index [indexes]map[string]*Lease // the first of each list
	slots [slotCount]slot
	turn  int // the slot that is due next
	// Leases to ask about before any slot. They may have been released since.
	doubted []*Lease
	// What was announced lately, for connections that were admitted before and entered after it.
	recent []Message
	heard  Mark // the number of the last of recent
}

// slot is the connections that are asked about at the same time.
type slot struct {
	leases []*Lease
	due    bool
	oldest time.Time // no lease of the slot was confirmed before; stale, but never too late
}

// Doubt has a connection asked about at once, because what was confirmed about it is over: its
// session may have been renewed. Until the stores say so it stays, at most until the deadline.
func (k *Keeper) Doubt(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.holder == nil || l.ended || l.doubted {
		return
	}
	l.doubted = true
	k.doubted = append(k.doubted, l)
	k.rouse()
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

// NewKeeper returns a Keeper; [Keeper.Run] lets it work.
func NewKeeper(o Options) (*Keeper, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	k := &Keeper{opt: o, log: o.Log.Named("lease"), metrics: newMetrics(o.Registerer), seed: maphash.MakeSeed(), wake: make(chan struct{}, 1)}
	for i := range k.index {
		k.index[i] = make(map[string]*Lease)
	}
	return k, nil
}

// Mark returns the present moment. It is taken before a connection's identity is found out, and
// given to [Keeper.Add].
func (k *Keeper) Mark() (Mark, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.heard, time.Now()
}

// Ticket returns what [Keeper.Add] needs of the handshake.
func (k *Keeper) Ticket(r *http.Request) string { return k.opt.Sessions.Ticket(r) }

// Add takes in a connection that was admitted by what the stores have said since the mark. If that has
// been revoked in between, it returns the cause and does not hold the connection.
func (k *Keeper) Add(l *Lease, h Holder, ticket string, since Mark, at time.Time) error {
	id := h.Identity()
	k.mu.Lock()
	defer k.mu.Unlock()
	again := since+Mark(len(k.recent)) < k.heard // more was announced than is remembered
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

// slotOf gives all connections of a user the same slot, so that they are asked about together.
func (k *Keeper) slotOf(id session.Identity) int32 {
	return int32(maphash.String(k.seed, id.UserID) % slotCount)
}

// Remove takes a connection off the books, if it is held.
func (k *Keeper) Remove(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.holder == nil {
		return
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

// keyOf returns what an index knows an identity by.
func keyOf(index int, id session.Identity) string {
	switch index {
	case bySession:
		return id.SessionID
	case byUser:
		return id.UserID
	default:
		return id.Organization.String() // of none, too: it can be switched
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

// Apply ends the connections that an announcement is about. It returns how many.
func (k *Keeper) Apply(m Message) int {
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
	return k.end(list, byAnnouncement)
}

// ending is a lease to be ended.
type ending struct {
	lease *Lease
	cause error
}

// end ends connections, unless they have ended, and returns how many that were.
func (k *Keeper) end(list []ending, by string) int {
	if len(list) == 0 {
		return 0
	}
	holders := make([]Holder, len(list)) // nil for those that have ended
	k.mu.Lock()
	for i, e := range list {
		if !e.lease.ended {
			holders[i], e.lease.ended = e.lease.holder, true
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

// Missed says that announcements may have been lost: all connections are checked at once.
func (k *Keeper) Missed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(Message{Type: typeMissed})
	for i := range k.slots {
		k.slots[i].due = true
	}
	k.rouse()
}

// remember keeps a message for handshakes under way. Its caller holds mu.
func (k *Keeper) remember(m Message) {
	if len(k.recent) == recentLimit {
		k.recent = append(k.recent[:0], k.recent[recentLimit/2:]...)
	}
	k.recent = append(k.recent, m)
	k.heard++
}

// rouse lets check look for slots that are due.
func (k *Keeper) rouse() {
	select {
	case k.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}
