// Package hub knows which local connections listen to which group. It hands each event to the
// members of the event's own group, never waits for any of them, and asks the [Bus] only for
// groups that somebody here has joined.
package hub

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// shardCount divides the organisations so that joins of one seldom wait for deliveries of
// another; a power of two.
const shardCount = 64

// Hub routes events to members. Create it with [New]. All methods are safe for concurrent use.
type Hub struct {
	bus  Bus
	seed maphash.Seed

	shards [shardCount]shard
}

// shard holds the groups of some organisations.
type shard struct {
	mu     sync.Mutex
	groups map[event.Group]*members
}

// members of one group.
type members struct {
	list []Member
	// lent says that a delivery may still be reading list: elements below its length must stay as
	// they are. Appending is fine, since a reader does not look past the length it was given.
	lent bool
}

// New returns a Hub that takes its events from the bus.
func New(bus Bus) *Hub {
	h := &Hub{bus: bus, seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].groups = make(map[event.Group]*members)
	}
	return h
}

// shardOf keeps all groups of an organisation together.
func (h *Hub) shardOf(org orgctx.ID) *shard {
	return &h.shards[maphash.Comparable(h.seed, org)%shardCount]
}

// Join makes m a member of the group and returns when the group's events reach it. The caller
// sees to it that m joins a group once only. An error, of ctx or of the bus, leaves m outside.
func (h *Hub) Join(ctx context.Context, g event.Group, m Member) error {
	if err := h.bus.Subscribe(ctx, g); err != nil {
		return err
	}
	s := h.shardOf(g.Organization())
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := s.groups[g]
	if ms == nil {
		ms = &members{}
		s.groups[g] = ms
	}
	ms.list = append(ms.list, m)
	return nil
}

// Leave ends the membership of m. It does nothing if m is no member. When it has returned, no
// delivery that starts later reaches m; one that runs at this moment still may.
func (h *Hub) Leave(g event.Group, m Member) {
	s := h.shardOf(g.Organization())
	s.mu.Lock()
	removed := s.remove(g, m)
	s.mu.Unlock()
	if removed {
		h.bus.Unsubscribe(g)
	}
}

// remove takes m out of the group. Its caller holds mu.
func (s *shard) remove(g event.Group, m Member) bool {
	ms := s.groups[g]
	if ms == nil {
		return false
	}
	i := slices.Index(ms.list, m)
	if i < 0 {
		return false
	}
	if ms.lent {
		ms.list = slices.Clone(ms.list)
		ms.lent = false
	}
	last := len(ms.list) - 1
	ms.list[i] = ms.list[last]
	ms.list[last] = nil
	ms.list = ms.list[:last]
	if last == 0 {
		delete(s.groups, g)
	}
	return true
}

// Deliver offers the event to every member of its group. Calls for one group must not overlap:
// the order of calls is the order in which each member is offered the events.
func (h *Hub) Deliver(e *event.Event) {
	for _, m := range h.membersOf(e.Group()) {
		m.Offer(e)
	}
}

// Gap tells every member of the group that events may have been lost at this point.
func (h *Hub) Gap(g event.Group) {
	for _, m := range h.membersOf(g) {
		m.OfferGap(g)
	}
}

// membersOf returns the members at this moment, to be read without the lock.
func (h *Hub) membersOf(g event.Group) []Member {
	s := h.shardOf(g.Organization())
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := s.groups[g]
	if ms == nil {
		return nil
	}
	ms.lent = true
	return ms.list
}

// Groups returns how many groups have members here.
func (h *Hub) Groups() int {
	n := 0
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		n += len(s.groups)
		s.mu.Unlock()
	}
	return n
}
