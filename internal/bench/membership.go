package bench

import (
	"sync"
	"sync/atomic"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// organization is one organization of the load.
type organization struct {
	id    orgctx.ID
	head  []byte // see eventHead
	noisy bool
}

// room is one group, as seen by publisher and members.
type room struct {
	// Fixed after construction.
	index   int // among all groups, for the limit's child process
	number  int64
	org     *organization
	group   event.Group
	tail    []byte // see eventTail
	channel string
	// outstanding counts, for each of the last events, the members that still have to receive it;
	// nil without flow control. The index is the sequence number modulo the length, which is a
	// power of two. Events of a group complete in order, because each member receives them in
	// order, so as many places as events in flight suffice.
	outstanding []atomic.Int32
	// completed receives a token each time an event has reached all members. It has room for all
	// events in flight, so that giving a token never waits; the publisher takes them.
	completed chan struct{}

	mu        sync.Mutex
	published int64 // sequence number of the last event
	members   int32
}

// publish takes the next sequence number. Everyone who is a member now is owed the event.
func (r *room) publish() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published++
	if r.outstanding != nil {
		r.place(r.published).Store(r.members)
		if r.members == 0 {
			r.complete()
		}
	}
	return r.published
}

// newOutstanding returns the places for that many events in flight.
func newOutstanding(inFlight int) []atomic.Int32 {
	places := 1
	for places < inFlight {
		places *= 2
	}
	return make([]atomic.Int32, places)
}

func (r *room) place(seq int64) *atomic.Int32 {
	return &r.outstanding[seq&int64(len(r.outstanding)-1)]
}

// last returns the sequence number of the last event.
func (r *room) last() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.published
}

// doneWith says that one member no longer needs the events after after, up to and including seq.
func (r *room) doneWith(after, seq int64) {
	if r.outstanding == nil {
		return
	}
	after = max(after, seq-int64(len(r.outstanding))) // older ones were given up already
	for s := after + 1; s <= seq; s++ {
		if r.place(s).Add(-1) == 0 {
			r.complete()
		}
	}
}

// complete gives the publisher a token. Tokens beyond the capacity are left-overs of events that
// the publisher gave up.
func (r *room) complete() {
	select {
	case r.completed <- struct{}{}:
	default:
	}
}

// span is a range of sequence numbers, both ends included.
type span struct{ from, to int64 }

// membership is one connection's view of one group. It belongs to the connection's loop.
type membership struct {
	room *room
	// confirmed says that the server has answered the subscription. Every event published from then
	// on, those after from, must arrive.
	confirmed   bool
	from        int64
	first, last int64  // sequence numbers that arrived; 0 if none did
	missing     []span // skipped, and not seen since, in rising order
}

// arrival is the result of receiving one event.
type arrival struct {
	lost       int64 // events skipped; -1 if one that was counted as lost arrives after all
	reordered  bool
	duplicated bool
}

// confirm notes the server's answer to the subscription.
func (m *membership) confirm() {
	if m.confirmed {
		return
	}
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	m.confirmed = true
	m.from = m.room.published
	m.room.members++
}

// receive notes that the event with this number arrived.
func (m *membership) receive(seq int64) arrival {
	next := m.last + 1
	if m.last == 0 {
		// Events published while the subscription was in progress may arrive or not.
		m.first = seq
		next = seq
		if m.confirmed {
			next = min(seq, m.from+1)
		}
	}
	if seq >= next {
		if m.confirmed {
			m.room.doneWith(max(m.last, m.from), max(seq, m.from))
		}
		m.last = seq
		if seq > next {
			m.missing = append(m.missing, span{from: next, to: seq - 1})
		}
		return arrival{lost: seq - next}
	}
	for i, s := range m.missing {
		if s.from <= seq && seq <= s.to {
			m.missing = append(m.missing[:i], append(split(s, seq), m.missing[i+1:]...)...)
			return arrival{lost: -1, reordered: true}
		}
	}
	if seq < m.first {
		m.first = seq
		return arrival{reordered: true}
	}
	return arrival{duplicated: true}
}

// split returns what remains of s without seq.
func split(s span, seq int64) []span {
	var rest []span
	if s.from < seq {
		rest = append(rest, span{from: s.from, to: seq - 1})
	}
	if seq < s.to {
		rest = append(rest, span{from: seq + 1, to: s.to})
	}
	return rest
}

// owed returns how many published events have not arrived yet.
func (m *membership) owed() int64 {
	if !m.confirmed {
		return 0
	}
	return max(m.room.last()-max(m.last, m.from), 0)
}

// leave ends the membership and makes it ready for another one.
func (m *membership) leave() {
	if m.confirmed {
		m.room.mu.Lock()
		m.room.members--
		m.room.doneWith(max(m.last, m.from), m.room.published)
		m.room.mu.Unlock()
	}
	*m = membership{room: m.room}
}
