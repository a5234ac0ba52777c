// Package hub knows which local connections listen to which group. It passes each event to the
// members of the event's own group, and never waits for any of them. It asks the [Bus] only for
// groups that a connection on this node has joined.
//
// Each organization has a lane: its groups, and their events that are waiting for delivery. Lanes
// are served in turn, each for the same amount of work, so an organization that never stops
// publishing delays only itself.
package hub

import (
	"cmp"
	"context"
	"hash/maphash"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/trail"
)

// shardCount divides the lanes so that a lookup rarely waits. It is a power of two.
const shardCount = 64

// Options are the options of a Hub. The zero Options work.
type Options struct {
	// IntakeBytes bounds the waiting events of one organization, in bytes. Default 8 MiB. Further
	// events are dropped and counted, and the members of their groups get a gap.
	IntakeBytes int
	// Registerer gets the metrics, and Log names organizations that lose events. They may be nil.
	Registerer prometheus.Registerer
	Log        *zap.Logger
	// Trail remembers which events were passed to how many members, and who was one. It may be nil.
	Trail *trail.Trail
	// Changed is called after a group got its first member here, or lost its last. Calls may come
	// out of order: [Hub.Occupied] has the truth. It must not block. It may be nil.
	Changed func(g event.Group)
}

// Hub routes events to members. Create it with [New]. All methods are safe for concurrent use.
type Hub struct {
	bus     Bus
	intake  int
	metrics *metrics
	log     *zap.Logger
	trail   *trail.Trail
	changed func(event.Group)
	sched   scheduler
	seed    maphash.Seed

	shards [shardCount]shard
}

// shard holds the lanes of some organizations.
type shard struct {
	mu    sync.Mutex
	lanes map[orgctx.ID]*lane
}

func (o Options) withDefaults() Options {
	o.IntakeBytes = cmp.Or(o.IntakeBytes, 8<<20)
	o.Log = cmp.Or(o.Log, zap.NewNop())
	if o.Changed == nil {
		o.Changed = func(event.Group) {}
	}
	return o
}

// New returns a Hub that takes its events from the bus.
func New(bus Bus, o Options) *Hub {
	o = o.withDefaults()
	h := &Hub{bus: bus, intake: o.IntakeBytes, metrics: newMetrics(o.Registerer), log: o.Log.Named("hub"), trail: o.Trail, changed: o.Changed, seed: maphash.MakeSeed()}
	h.sched.serve = h.runTurn
	h.sched.init()
	for i := range h.shards {
		h.shards[i].lanes = make(map[orgctx.ID]*lane)
	}
	return h
}

// Join makes m a member of the group, and returns when the group's events reach m. The caller must
// not let m join a group twice. After an error, of ctx or of the bus, m is not a member.
func (h *Hub) Join(ctx context.Context, g event.Group, m Member) error {
	if err := h.bus.Subscribe(ctx, g); err != nil {
		return err
	}
	if h.shardOf(g.Organization()).join(g, m) {
		h.metrics.groups.Add(1)
		h.changed(g)
	}
	return nil
}

// join adds a member, and reports whether it is the group's first.
func (s *shard) join(g event.Group, m Member) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[g.Organization()]
	if l == nil {
		l = newLane()
		s.lanes[g.Organization()] = l
	}
	return l.join(g, m)
}

// Leave ends the membership of m. It does nothing if m is not a member. Deliveries that start after
// Leave has returned do not reach m. One that is running now still may.
func (h *Hub) Leave(g event.Group, m Member) {
	s := h.shardOf(g.Organization())
	l := h.lane(g.Organization())
	if l == nil {
		return
	}
	// Finding one of many members takes time, so the shard is not locked meanwhile.
	left, last, empty := l.leave(g, m)
	if empty {
		s.mu.Lock()
		l.mu.Lock()
		if len(l.groups) == 0 && s.lanes[g.Organization()] == l {
			delete(s.lanes, g.Organization())
		}
		l.mu.Unlock()
		s.mu.Unlock()
	}
	if last {
		h.metrics.groups.Add(-1)
		h.changed(g)
	}
	if left {
		h.bus.Unsubscribe(g)
	}
}

// Deliver passes the event to every member of its group, in the order of the calls, which must not
// overlap. It returns quickly, and leaves longer work to workers.
func (h *Hub) Deliver(e *event.Event) {
	l := h.lane(e.Group().Organization())
	if l == nil {
		e.Dropped(dropNoMembers)
		return
	}
	h.accept(l, arrival{event: e, group: e.Group()})
}

// Gap tells every member of the group that events may have been lost at this point in their order.
func (h *Hub) Gap(g event.Group) {
	if l := h.lane(g.Organization()); l != nil {
		h.accept(l, arrival{group: g})
	}
}

// Groups returns how many groups have members here.
func (h *Hub) Groups() int { return int(h.metrics.groups.Load()) }

// Occupied reports whether a group has members here.
func (h *Hub) Occupied(g event.Group) bool {
	l := h.lane(g.Organization())
	return l != nil && l.occupied(g)
}

// Wait returns when all events have been passed on and no goroutine of the hub is left.
func (h *Hub) Wait() { h.sched.wait() }

// shardOf returns the shard that holds all groups of an organization.
func (h *Hub) shardOf(org orgctx.ID) *shard {
	return &h.shards[maphash.Comparable(h.seed, org)%shardCount]
}

// lane returns the lane of an organization that has members here, else nil.
func (h *Hub) lane(org orgctx.ID) *lane {
	s := h.shardOf(org)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes[org]
}
