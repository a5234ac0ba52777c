package channellayer

import (
	"sync"
	"time"

	"orgcast/internal/bucket"
	"orgcast/internal/event"
	"orgcast/internal/loglimit"
	"orgcast/internal/orgctx"
)

// savings is which part of a second's budget may be used at once.
const savings = 4

// budget is what one organization may still use of this node. Events that exceed it are dropped,
// and their groups get a gap as soon as the organization has saved something.
type budget struct {
	subscriptions int
	created       time.Time
	events, bytes bucket.Bucket
	owed          map[event.Group]struct{} // groups that get a gap
	log           loglimit.Limiter
}

func newBudget() *budget {
	// Full, whatever the limits are: a bucket never holds more than its owner says.
	const full = 1 << 62
	return &budget{created: time.Now(), events: bucket.New(full), bytes: bucket.New(full), owed: make(map[event.Group]struct{})}
}

// take reports whether the organization may use so many bytes for one event.
func (b *budget) take(now time.Time, l Limits, size int) bool {
	age := now.Sub(b.created)
	if l.EventsPerSecond > 0 && !b.events.Take(age, l.EventsPerSecond, max(int(l.EventsPerSecond/savings), 1)) {
		return false
	}
	return l.BytesPerSecond <= 0 || b.bytes.TakeN(age, float64(l.BytesPerSecond), max(int(l.BytesPerSecond/savings), l.MaxEventSize), size)
}

// settled returns the groups that are owed a gap, and forgets them.
func (b *budget) settled() (gaps []event.Group) {
	for g := range b.owed {
		gaps = append(gaps, g)
	}
	clear(b.owed)
	return gaps
}

// budgets are those of all organizations that want groups, on all servers together.
type budgets struct {
	mu    sync.Mutex // never held during I/O or calls of the Sink
	byOrg map[orgctx.ID]*budget
}

func newBudgets() *budgets { return &budgets{byOrg: make(map[orgctx.ID]*budget)} }

// subscribe counts a subscription of an organization.
func (s *budgets) subscribe(org orgctx.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.byOrg[org]
	if b == nil {
		b = newBudget()
		s.byOrg[org] = b
	}
	b.subscriptions++
}

// unsubscribe undoes one subscription. last says that it was the organization's last one of the
// group, which is then owed nothing.
func (s *budgets) unsubscribe(g event.Group, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.byOrg[g.Organization()]
	if b.subscriptions--; b.subscriptions == 0 {
		delete(s.byOrg, g.Organization())
	} else if last {
		delete(b.owed, g)
	}
}

// spend takes an event from the budget of its organization. If that is not possible, the group is
// owed a gap, and log says whether to log that. Otherwise, gaps come before the event.
func (s *budgets) spend(g event.Group, size int, l Limits, now time.Time) (gaps []event.Group, ok, log bool, suppressed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.byOrg[g.Organization()]
	if b == nil {
		return nil, false, false, 0 // its last member has just left
	}
	if !b.take(now, l, size) {
		b.owed[g] = struct{}{}
		suppressed, log = b.log.Allow(now)
		return nil, false, log, suppressed
	}
	return b.settled(), true, false, 0
}

// settle returns the groups that are owed a gap and whose organizations have saved something.
func (s *budgets) settle(l Limits, now time.Time) (gaps []event.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.byOrg {
		if len(b.owed) > 0 && b.take(now, l, 0) {
			gaps = append(gaps, b.settled()...)
		}
	}
	return gaps
}
