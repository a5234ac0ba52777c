package hub

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
)

const (
	// inlineWork is up to how much work the receiver does itself, at once: waking a worker would
	// cost as much as writing to a few members.
	inlineWork = 32
	// inlineEvents is how many events of a lane the receiver serves itself within inlinePeriod.
	// What is beyond is better joined by a worker: writes of one organization are no more than that
	// many of the things that everybody else waits for.
	inlineEvents = 16
	inlinePeriod = time.Millisecond
	// turnWork is how much work one turn of a lane may be while others wait; loneWork is the same
	// while none does.
	turnWork = 2048
	loneWork = 1 << 16
	// workBytes is how many bytes take about as long to write as the write itself.
	workBytes = 64 << 10
	// burstBytes bounds the payloads that are joined for one write.
	burstBytes = 32 << 10
)

// lane is one organization: its groups with their members, and the arrivals that wait.
type lane struct {
	mu      sync.Mutex
	groups  map[event.Group]*members
	waiting []arrival
	bytes   int // of the events in waiting
	// lost holds groups of which arrivals had to be dropped and whose members have not been told.
	lost map[event.Group]*members
	// dropped counts those arrivals since the log last said so, which was at loggedAt.
	dropped  int
	loggedAt time.Time
	// busy says that the lane is in the scheduler's ring or being served: only one goroutine at a
	// time serves a lane, which is what keeps the order.
	busy bool
	// inlined is how many events were served at once since the moment given.
	inlined      int
	inlinedSince time.Time
	// debt is the work by which turns were longer than they may be: one event can be more than a
	// turn.
	debt int
}

// workOf is what it takes to hand over an event, or a gap, in writes of a small event.
func workOf(a arrival, members int) int {
	if a.event == nil {
		return members
	}
	return members * (1 + a.event.Size()/workBytes)
}

// arrival is what came from the bus: an event, or a gap in the group if event is nil.
type arrival struct {
	event *event.Event
	group event.Group
	// members are those whom it came for. If all of them leave before its turn, who joined since
	// then must not get it: what came in between was for nobody.
	members *members
}

// indexedFrom is how many members a group has when it begins to remember where each stands. Below
// that looking at all of them takes about as long.
const indexedFrom = 256

// members of one group.
type members struct {
	list []Member
	// at is where each stands in list, some 40 bytes for each. It is nil until one leaves a group
	// of indexedFrom, and again when the group has shrunk to a quarter.
	at   map[Member]int
	full int // the most that at has had
	// lent says that a delivery may still be reading list: elements below its length must stay as
	// they are. Appending is fine, since a reader does not look past the length it was given.
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
	return first
}

// leave takes m out of the group. last reports that the group has gone with it, empty that it was
// the lane's last.
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
	return true, end == 0, len(l.groups) == 0
}

// index returns where a member stands among those of a group, below 0 if it is none. l.mu is held.
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

// membersFor returns those whom an arrival is for at this moment, to be read without the lock.
func (l *lane) membersFor(a arrival) []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.groups[a.group] != a.members {
		return nil
	}
	a.members.lent = true
	return a.members.list
}

// accept accepts an arrival. A small group of an idle lane is served on the spot; anything else
// waits for a worker.
func (h *Hub) accept(l *lane, a arrival) {
	size := 0
	if a.event != nil {
		size = a.event.Size()
	}
	l.mu.Lock()
	ms := l.groups[a.group]
	if ms == nil {
		l.mu.Unlock()
		return
	}
	if !l.busy && a.event != nil && workOf(a, len(ms.list)) <= inlineWork && l.mayInline(a.event.Received()) {
		l.busy = true
		ms.lent = true
		list := ms.list
		l.mu.Unlock()
		deliverInline(list, a.event.Alone())
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
		if count > 0 {
			h.log.Warn("intake full, events dropped", zap.Stringer("organization", a.group.Organization()), zap.Int("count", count))
		}
		return
	}
	if len(l.lost) > 0 { // room again: the gap comes before what follows it
		if of, ok := l.lost[a.group]; ok {
			delete(l.lost, a.group)
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

// dropsInterval is the least pause between two log lines about what an organization loses here.
const dropsInterval = 10 * time.Second

// drop counts an arrival that has no room, and returns how many have had none if the log is to say
// so. l.mu is held.
func (l *lane) drop(now time.Time) (count int) {
	l.dropped++
	if now.Sub(l.loggedAt) < dropsInterval {
		return 0
	}
	count, l.dropped, l.loggedAt = l.dropped, 0, now
	return count
}

// mayInline reports whether the receiver may serve one event more by itself. l.mu is held.
func (l *lane) mayInline(now time.Time) bool {
	if now.Sub(l.inlinedSince) > inlinePeriod {
		l.inlined, l.inlinedSince = 0, now
	}
	l.inlined++
	return l.inlined <= inlineEvents
}

// deliverInline is deliver for one burst and few members, without a list of its own.
func deliverInline(list []Member, b *event.Burst) {
	for _, m := range list {
		if m.Offer(b) {
			m.Flush()
		}
	}
}

// done ends the service of a lane: it goes back into the ring if something waits.
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

// runTurn gives a lane its turn. It runs in a worker; alone says that no other lane waits.
func (h *Hub) runTurn(w *worker, l *lane, alone bool) {
	batch := l.turn(w.batch[:0], alone)
	for i := 0; i < len(batch); {
		if batch[i].event == nil {
			for _, m := range l.membersFor(batch[i]) {
				m.OfferGap(batch[i].group)
			}
			i++
			continue
		}
		// A run of events of one group is offered as one.
		first, end := batch[i], i
		for end < len(batch) && batch[end].event != nil && batch[end].members == first.members {
			end++
		}
		rest := make([]*event.Event, 0, end-i) // bursts keep it
		for ; i < end; i++ {
			rest = append(rest, batch[i].event)
		}
		list := l.membersFor(first)
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
	w.flush()
	w.batch = batch
	w.clear()
	h.done(l)
}

// turn takes arrivals from the front, for about as much work as a turn may be. What an earlier turn
// was too long for comes off, so it may take none; while nobody else waits that does not matter.
func (l *lane) turn(batch []arrival, alone bool) []arrival {
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
		for g, of := range l.lost { // nothing follows that could bring the news
			batch = append(batch, arrival{group: g, members: of})
		}
		l.lost = nil
	}
	return batch
}
