package roster

import "orgcast/internal/event"

const (
	// seenFirst and seenMost are how many positions a group remembers, at first and at most.
	// seenMost has room for all events read of one history, and for events that a hung master
	// publishes when it wakes up after its replacement. Those are the commands that clients had in
	// progress, still queued in its sockets.
	seenFirst = 8
	seenMost  = 2048
	// seenBytes bounds the positions that all groups of an organization remember. At the limit, a
	// group drops its oldest positions for new ones.
	seenBytes     = 1 << 20
	positionBytes = 16
)

// seen holds the newest positions delivered to a group, in the order of their delivery.
type seen struct {
	ring []event.Position // appended to until it is full, then used as a ring
	next int              // index of the next one, once the ring is full
	at   int              // index at which has begins to search
}

// add remembers a position. b is the budget of the group's organization, which bounds the memory.
func (s *seen) add(p event.Position, b *budget) {
	if len(s.ring) < cap(s.ring) {
		s.ring = append(s.ring, p)
		return
	}
	if size := max(2*cap(s.ring), seenFirst); size <= seenMost && b.seen+(size-cap(s.ring))*positionBytes <= seenBytes {
		b.seen += (size - cap(s.ring)) * positionBytes
		grown := make([]event.Position, 0, size)
		grown = append(append(grown, s.ring[s.next:]...), s.ring[:s.next]...)
		s.ring, s.next = append(grown, p), 0
		return
	}
	if len(s.ring) == 0 {
		return // the organization has no room left
	}
	s.ring[s.next] = p
	s.next = (s.next + 1) % len(s.ring)
}

// has reports whether a position is remembered. It is fast if positions are looked up in order.
func (s *seen) has(p event.Position) bool {
	for range s.ring {
		if s.at >= len(s.ring) {
			s.at = 0
		}
		if s.ring[s.at] == p {
			return true
		}
		s.at++
	}
	return false
}

// list returns the positions, oldest first.
func (s *seen) list() []event.Position {
	return append(append(make([]event.Position, 0, len(s.ring)), s.ring[s.next:]...), s.ring[:s.next]...)
}

// forget frees the memory.
func (s *seen) forget(b *budget) {
	b.seen -= cap(s.ring) * positionBytes
	*s = seen{}
}
