package outbox

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
)

// patience is how long a write may be under way before its client counts as behind. A client that
// reads is served sooner, even if the machine is busy for a moment.
const patience = 250 * time.Millisecond

// Budget counts what waits for all clients of one organization, and decides whose outbox gives way
// when that is too much. What several clients wait for it counts once, as it is in memory once. The
// zero Budget is ready. It is safe for concurrent use.
//
// The outbox that holds most gives way first. A client whose write has begun just now is not ended
// for that write, since it may be the quickest of all, unless twice as much waits as may.
type Budget struct {
	used     atomic.Int64
	settling atomic.Bool // somebody settles

	mu    sync.Mutex // taken under the mu of an outbox, never the other way round
	ranks *ranks     // nil until somebody has to wait
}

// Owner is the connection of an outbox.
type Owner interface {
	// Budget returns the budget of its organization.
	Budget() *Budget
	// GaveWay is told what has given way, or that the outbox is full, because others of the
	// organization needed room. It must not wait. It is called without any lock of this package,
	// from every goroutine that uses an outbox of the same budget.
	GaveWay(out Outcome)
	// Lost is told which events of a group the client does not get, and why. follows says that no
	// batch was claimed since the last call. It must neither wait nor call the outbox.
	Lost(events []*event.Event, why Loss, follows bool)
}

// ranks are the members of a budget in the order in which they give way. Sizes are classes, so that
// the largest is found without a search.
type ranks struct {
	behind [classes]list // first: those with a write older than patience
	stuck  list          // then those of them that can let go of nothing, which have to end
	queued [classes]list // then the others, if something waits after their write
	young  list          // all that are not older than patience, the oldest first
}

// classes is how many sizes are told apart: each is twice the one before, from smallest on.
const classes, smallest = 24, 1 << 10

func classOf(size int) int { return min(bits.Len(uint(size/smallest)), classes-1) }

// member is an outbox as its organization's budget sees it.
type member struct {
	box    *Outbox
	budget *Budget

	// Guarded by the outbox's mu.
	flight *Batch        // is being written, and counts; else nil
	quiet  chan struct{} // closed, and then nil, when nothing is queued and nobody writes; nil unless asked for

	// Guarded by the budget's mu.
	since time.Time // when its write began, or its first event was held
	old   bool      // that is longer ago than patience
	age   place     // in young
	rank  place     // in one of the others

	// Written with both the outbox's mu and the budget's held, so that either is enough to read.
	stand standing
}

// standing is what a budget knows of what waits in an outbox.
type standing struct {
	waits bool
	loose bool // it can let go of something
	class int  // of its size
}

// Used returns how many bytes wait, those that are being written included.
func (b *Budget) Used() int { return int(b.used.Load()) }

// put ranks a member again after what waits for it has changed. begun says that it begins to wait
// now, whatever was before.
func (b *Budget) put(m *member, now standing, begun bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ranks == nil {
		b.ranks = new(ranks)
	}
	begun = begun || !m.stand.waits
	m.stand = now
	switch {
	case !now.waits:
		m.old = false
		m.age.moveTo(nil)
	case begun:
		m.since, m.old = time.Now(), false
		m.age.moveTo(&b.ranks.young)
	}
	b.ranks.sort(m)
}

// waitsSince returns when a member that waits began to.
func (b *Budget) waitsSince(m *member) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return m.since
}

// sort puts a member where it belongs.
func (r *ranks) sort(m *member) {
	var to *list
	switch {
	case !m.stand.waits:
	case m.old && (m.stand.loose || m.box.options.Policy == Disconnect):
		to = &r.behind[m.stand.class]
	case m.old:
		to = &r.stuck
	case m.stand.loose:
		to = &r.queued[m.stand.class]
	}
	if m.rank.in != to {
		m.rank.moveTo(to)
	}
}

// turn is the turn of a member to give way, for what it was when it was chosen.
type turn struct {
	of    *member
	since time.Time
	stand standing
}

// next returns whose turn it is to give way, so that no more than limit bytes wait. Those that hold
// equally much take turns. of is nil if nobody can.
func (b *Budget) next(limit int) turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.ranks
	if r == nil {
		return turn{}
	}
	now := time.Now()
	for p := r.young.first; p != nil && now.Sub(p.of.since) >= patience; p = r.young.first {
		p.of.old = true
		p.moveTo(nil)
		r.sort(p.of)
	}
	p := largest(&r.behind)
	if p == nil {
		p = r.stuck.first
	}
	if p == nil {
		p = largest(&r.queued)
	}
	if p != nil {
		p.moveTo(p.in)
	} else if p = r.young.first; p == nil || b.Used() <= 2*limit {
		return turn{}
	}
	return turn{p.of, p.of.since, p.of.stand}
}

func largest(of *[classes]list) *place {
	for i := len(of) - 1; i >= 0; i-- {
		if p := of[i].first; p != nil {
			return p
		}
	}
	return nil
}

// holds reports whether a turn's member is still as it was.
func (b *Budget) holds(t turn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return t.of.stand == t.stand && t.of.since.Equal(t.since)
}

// settle lets members give way until no more than limit bytes wait. One goroutine at a time does
// it, so that no more gives way than has to. Its caller holds no lock.
func (b *Budget) settle(limit int) {
	for more := true; more && b.Used() > limit && b.settling.CompareAndSwap(false, true); {
		more = b.settleOnce(limit)
	}
}

func (b *Budget) settleOnce(limit int) (more bool) {
	defer b.settling.Store(false)
	t := b.next(limit)
	if t.of == nil {
		return false
	}
	if out := t.of.box.giveWay(t, limit); out != (Outcome{}) {
		t.of.box.owner.GaveWay(out)
	}
	return true
}

// list is a list of places, the first of which was put there first.
type list struct{ first, last *place }

// place is where a member stands in a list.
type place struct {
	of         *member
	in         *list // nil for none
	prev, next *place
}

// moveTo leaves the list that the place is in, and puts it last into another, or the same. Nil is
// none.
func (p *place) moveTo(to *list) {
	if l := p.in; l != nil {
		if p.prev == nil {
			l.first = p.next
		} else {
			p.prev.next = p.next
		}
		if p.next == nil {
			l.last = p.prev
		} else {
			p.next.prev = p.prev
		}
	}
	p.in, p.prev, p.next = to, nil, nil
	if to == nil {
		return
	}
	if p.prev = to.last; p.prev == nil {
		to.first = p
	} else {
		p.prev.next = p
	}
	to.last = p
}
