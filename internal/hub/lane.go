package hub

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/trail"
)

const (
	// inlineWork is the most work that the receiver does itself, because waking a worker costs as
	// much as writing to a few members.
	inlineWork = 32
	// inlineEvents is how many events of a lane the receiver serves itself within inlinePeriod. A
	// worker joins further events into bursts. So an organization delays all others by no more than
	// that many events.
	inlineEvents = 16
	inlinePeriod = time.Millisecond
	// turnWork bounds the work of one turn of a lane while others wait, loneWork while none waits.
	turnWork = 2048
	loneWork = 1 << 16
	// workBytes is the event size that doubles the cost of a write.
	workBytes = 64 << 10
	// burstBytes bounds the payloads that are joined for one write.
	burstBytes = 32 << 10
	// longestPause bounds how long a lane lets events gather before its next turn. In less than
	// shortestPause, few would come.
	longestPause  = 2 * time.Millisecond
	shortestPause = 100 * time.Microsecond
)

// lane holds one organization's groups with their members, and the waiting arrivals.
type lane struct {
	mu      sync.Mutex
	groups  map[event.Group]*members
	waiting []arrival
	bytes   int // total size of the events in waiting
	// lost holds groups whose arrivals were dropped and whose members have not been told.
	lost map[event.Group]*members
	// dropped counts the arrivals dropped since the last log line, which was written at loggedAt.
	dropped  int
	loggedAt time.Time
	// busy says that the lane is in the scheduler's ring or being served. Only one goroutine at a
	// time serves a lane, which keeps the order.
	busy bool
	// inlined counts the events that the receiver has served itself since inlinedSince.
	inlined      int
	inlinedSince time.Time
	// debt is the work by which turns exceeded their bound, because one event can be more work than
	// a turn.
	debt int
}

// workOf returns the cost of passing on an event or a gap, counted in writes of a small event.
func workOf(a arrival, members int) int {
	if a.event == nil {
		return members
	}
	return members * (1 + a.event.Size()/workBytes)
}

// arrival is an event from the bus, or a gap in the group if event is nil.
type arrival struct {
	event *event.Event
	group event.Group
	// members are the group's members when it came. If all of them leave before its turn, members
	// that joined later must not get it: they have missed the events that came while the group was
	// empty.
	members *members
}

// indexedFrom is the size from which a group remembers the place of each member. In a smaller
// group, a search is about as fast.
const indexedFrom = 256

// members holds the members of one group.
type members struct {
	list []Member
	// at is the place of each member in list. It takes some 40 bytes for each. It is nil until a
	// member leaves a group of indexedFrom members, and again after the group has shrunk to a
	// quarter.
	at   map[Member]int
	full int // the most entries that at has had
	// lent says that a delivery may still be reading list. Elements within its length must not
	// change. Appending is fine, because a reader does not look past the length that it got.
	lent bool
}

func newLane() *lane { return &lane{groups: make(map[event.Group]*members)} }

// join adds a member and reports whether it is the group's first.
func (l *lane) join(g event.Group, m Member) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := l.groups[g]
	if ms == nil {
		ms, first = &members{}, true
		l.groups[g] = ms
	}
	if ms.at != nil {
		ms.at[m] = len(ms.list)
		ms.full = max(ms.full, len(ms.list)+1)
	}
	ms.list = append(ms.list, m)
	trailOf(m).Joined(g)
	return first
}

func (l *lane) occupied(g event.Group) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups[g] != nil
}

// leave removes m from the group. last reports that m was the group's last member, and empty that
// the group was the lane's last.
func (l *lane) leave(g event.Group, m Member) (left, last, empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := l.groups[g]
	if ms == nil {
		return false, false, false
	}
	i := l.index(ms, m)
	if i < 0 {
		return false, false, false
	}
	if ms.lent {
		ms.list = slices.Clone(ms.list)
		ms.lent = false
	}
	end := len(ms.list) - 1
	if ms.at != nil {
		ms.at[ms.list[end]] = i
		delete(ms.at, m)
	}
	ms.list[i] = ms.list[end]
	ms.list[end] = nil
	ms.list = ms.list[:end]
	if end < ms.full/4 {
		ms.at, ms.full = nil, 0
	}
	if end == 0 {
		delete(l.groups, g)
	}
	trailOf(m).Left(g)
	return true, end == 0, len(l.groups) == 0
}

// index returns the place of a member in a group, or -1 if it is not a member. Its caller holds mu.
func (l *lane) index(ms *members, m Member) int {
	if ms.at == nil && len(ms.list) < indexedFrom {
		return slices.Index(ms.list, m)
	}
	if ms.at == nil {
		ms.full = len(ms.list)
		ms.at = make(map[Member]int, ms.full)
		for i, other := range ms.list {
			ms.at[other] = i
		}
	}
	if i, ok := ms.at[m]; ok {
		return i
	}
	return -1
}

// membersFor returns the current members for an arrival, to whom the events are to be offered. They
// may be read without the lock.
func (l *lane) membersFor(a arrival, events []*event.Event, t *trail.Trail) []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.groups[a.group] != a.members {
		return nil
	}
	a.members.lent = true
	t.Passed(events, len(a.members.list))
	return a.members.list
}

// accept accepts an arrival. It serves a small group of an idle lane at once. Other arrivals wait
// for a worker.
func (h *Hub) accept(l *lane, a arrival) {
	size := 0
	if a.event != nil {
		size = a.event.Size()
	}
	l.mu.Lock()
	ms := l.groups[a.group]
	if ms == nil {
		l.mu.Unlock()
		if a.event != nil {
			a.event.Dropped(dropNoMembers)
		}
		return
	}
	if !l.busy && a.event != nil && workOf(a, len(ms.list)) <= inlineWork && l.mayInline(a.event.Received()) {
		l.busy = true
		ms.lent = true
		list := ms.list
		alone := a.event.Alone()
		h.trail.Passed(alone.Events(), len(list))
		l.mu.Unlock()
		a.event.Offered(len(list))
		deliverInline(list, alone)
		h.done(l)
		return
	}
	if l.bytes > 0 && l.bytes+size > h.intake {
		if l.lost == nil {
			l.lost = make(map[event.Group]*members)
		}
		l.lost[a.group] = ms
		count := l.drop(time.Now())
		l.mu.Unlock()
		h.metrics.dropped.Inc()
		if a.event != nil {
			h.trail.Dropped(a.group, a.event.Position(), trail.DropIntake)
			a.event.Dropped(trail.DropIntake)
		}
		if count > 0 {
			h.log.Warn("intake full, events dropped", zap.Stringer("organization_id", a.group.Organization()), zap.Int("count", count))
		}
		return
	}
	if len(l.lost) > 0 { // there is room again: the gap comes before later events
		if of, ok := l.lost[a.group]; ok {
			delete(l.lost, a.group)
			h.trail.Gap(a.group, trail.GapIntake)
			l.waiting = append(l.waiting, arrival{group: a.group, members: of})
		}
	}
	a.members = ms
	l.waiting = append(l.waiting, a)
	l.bytes += size
	start := !l.busy
	l.busy = true
	l.mu.Unlock()
	if start {
		h.sched.push(l)
	}
}

// dropsInterval is the shortest time between two log lines about one organization's drops.
const dropsInterval = 10 * time.Second

// drop counts a dropped arrival. If a log line is due, it returns the number to report. Its caller
// holds mu.
func (l *lane) drop(now time.Time) (count int) {
	l.dropped++
	if now.Sub(l.loggedAt) < dropsInterval {
		return 0
	}
	count, l.dropped, l.loggedAt = l.dropped, 0, now
	return count
}

// mayInline reports whether the receiver may serve one more event itself. Its caller holds mu.
func (l *lane) mayInline(now time.Time) bool {
	if now.Sub(l.inlinedSince) > inlinePeriod {
		l.inlined, l.inlinedSince = 0, now
	}
	l.inlined++
	return l.inlined <= inlineEvents
}

// dropNoMembers is why an event is passed to nobody after its group has lost its last member.
const dropNoMembers = "no_members"

// deliverInline passes one burst to a few members, without a list of members to flush.
func deliverInline(list []Member, b *event.Burst) {
	for _, m := range list {
		if m.Offer(b) {
			m.Flush()
		}
	}
}

// done ends the service of a lane, and puts the lane back into the ring if something waits.
func (h *Hub) done(l *lane) {
	l.mu.Lock()
	again := len(l.waiting) > 0 || len(l.lost) > 0
	if !again {
		l.busy = false
		l.waiting = nil // shrink after a burst
	}
	l.mu.Unlock()
	if again {
		h.sched.push(l)
	}
}

// runTurn serves a lane for one turn. It runs in a worker. alone says that no other lane waits.
//
// If members got two events in a write, or more, then events come faster than turns end. The lane
// then pauses for half as long as the writes took, so that more events share the next ones: a write
// costs about the same, whether it carries one event or twenty. While other lanes wait, their turns
// are pause enough.
func (h *Hub) runTurn(w *worker, l *lane, alone bool) {
	batch := l.turn(w.batch[:0], alone, h.trail)
	offered := 0
	for i := 0; i < len(batch); {
		if batch[i].event == nil {
			for _, m := range l.membersFor(batch[i], nil, nil) {
				m.OfferGap(batch[i].group)
			}
			i++
			continue
		}
		// Consecutive events of one group are offered together.
		first, end := batch[i], i
		for end < len(batch) && batch[end].event != nil && batch[end].members == first.members {
			end++
		}
		rest := make([]*event.Event, 0, end-i) // bursts keep this slice
		for ; i < end; i++ {
			rest = append(rest, batch[i].event)
		}
		list := l.membersFor(first, rest, h.trail)
		for _, e := range rest {
			e.Offered(len(list))
		}
		offered += len(rest) * len(list)
		for len(rest) > 0 && len(list) > 0 {
			var b *event.Burst
			b, rest = event.NewBurst(rest, burstBytes)
			for _, m := range list {
				if m.Offer(b) {
					w.dirty = append(w.dirty, m)
				}
			}
		}
	}
	writes, began := len(w.dirty), time.Now()
	w.flush()
	pause := min(time.Since(began)/2, longestPause)
	w.batch = batch
	w.clear()
	if offered < 2*writes || pause < shortestPause || h.sched.waiting() || l.filling(h.intake) {
		h.done(l)
		return
	}
	h.sched.after(pause, func() { h.done(l) })
}

// filling reports whether a good part of a lane's room is taken, so that its next turn cannot wait.
func (l *lane) filling(intake int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes > intake/4
}

// turn takes arrivals from the front, for about the work of one turn. The debt of earlier turns
// counts, so it may take none. While no other lane waits, debt does not matter.
func (l *lane) turn(batch []arrival, alone bool, t *trail.Trail) []arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	work := turnWork - l.debt
	if alone {
		work = loneWork
	}
	n := 0
	for ; n < len(l.waiting) && work > 0; n++ {
		a := l.waiting[n]
		if a.event != nil {
			l.bytes -= a.event.Size()
		}
		if ms := l.groups[a.group]; ms != nil {
			work -= workOf(a, len(ms.list))
		}
		work--
	}
	if l.debt = max(-work, 0); alone {
		l.debt = 0
	}
	batch = append(batch, l.waiting[:n]...)
	clear(l.waiting[:n])
	l.waiting = l.waiting[n:]
	if len(l.waiting) == 0 {
		l.waiting = nil
		for g, of := range l.lost { // no later arrival will bring the gap
			t.Gap(g, trail.GapIntake)
			batch = append(batch, arrival{group: g, members: of})
		}
		l.lost = nil
	}
	return batch
}
