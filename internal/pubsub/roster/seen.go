package roster

import "orgcast/internal/event"

const (
	// seenFirst and seenMost are how many positions a group remembers, at first and at most: all
	// that is read of one history, and what a master that hung and wakes up after its replacement
	// puts in between. That is what had queued in its sockets, as much as clients had under way.
	seenFirst = 8
	seenMost  = 2048
	// seenBytes bounds what all groups of an organization remember. Beyond it a group's oldest make
	// room for its newest.
	seenBytes     = 1 << 20
	positionBytes = 16
)

// seen are the newest positions that a group was handed, in that order.
type seen struct {
	ring []event.Position // full from its beginning, and used as a ring once it has its full length
	next int              // where the next one goes, if the ring is full
	at   int              // where has found one, or somewhere
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

// has reports whether a position is remembered. It is quick where they are asked for in their
// order.
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

// forget gives the memory back.
func (s *seen) forget(b *budget) {
	b.seen -= cap(s.ring) * positionBytes
	*s = seen{}
}
