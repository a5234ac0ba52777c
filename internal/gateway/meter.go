package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
)

// tally counts what was written to one connection. Only the goroutine that writes adds to it, so an
// addition is no more than two loads and two stores, and waits for no other core.
type tally struct {
	deliveries, bytes atomic.Uint64
}

func (t *tally) add(deliveries, bytes int) {
	t.deliveries.Store(t.deliveries.Load() + uint64(deliveries)) //nolint:gosec // it is not negative
	t.bytes.Store(t.bytes.Load() + uint64(bytes))                //nolint:gosec // likewise
}

// account is what one organization has used of the node. Deliveries are counted by each connection;
// the account has those of connections that have ended.
type account struct {
	org orgctx.ID
	// ended and endedBytes belong to connections that have ended.
	ended, endedBytes atomic.Uint64
	// members counts the connections, and peak the most at a time since the last reset.
	members, peak atomic.Int64
	// slowest is the longest time to a write since the last reset, in nanoseconds. Writes load it,
	// and rarely store.
	slowest atomic.Int64

	// high is the most that was ever shown.
	high, highBytes atomic.Uint64

	// Owned by the caller of [Server.Measure].
	last, start sum       // at the last measurement, and at the last reset
	measured    time.Time // when that was

	rate atomic.Uint64 // deliveries per 1,000 s between the last two measurements
}

// sum is what all connections of an organization, open and ended, had delivered at one moment.
type sum struct{ deliveries, bytes uint64 }

// raise returns n, or what was shown before if that is more.
func raise(high *atomic.Uint64, n uint64) uint64 {
	for shown := high.Load(); ; shown = high.Load() {
		if n <= shown {
			return shown
		}
		if high.CompareAndSwap(shown, n) {
			return n
		}
	}
}

// count notes how many connections there are now.
func (a *account) count(members int) {
	n := int64(members)
	a.members.Store(n)
	for peak := a.peak.Load(); n > peak && !a.peak.CompareAndSwap(peak, n); peak = a.peak.Load() {
	}
}

// took notes how long a write took.
func (a *account) took(d time.Duration) {
	for slowest := a.slowest.Load(); int64(d) > slowest && !a.slowest.CompareAndSwap(slowest, int64(d)); slowest = a.slowest.Load() {
	}
}

// end takes over what a connection has delivered, when nothing more can be written to it, and before
// the connection gives its place back. It clears the connection's own count first: a sum of both that
// is made meanwhile may miss it, and never counts it twice. See [Server.sums].
func (a *account) end(t *tally) {
	deliveries, bytes := t.deliveries.Swap(0), t.bytes.Swap(0)
	a.ended.Add(deliveries)
	a.endedBytes.Add(bytes)
}

// meter has the accounts of all organizations that are connected, or were since the last reset. It is
// safe for concurrent use.
type meter struct {
	mu       sync.Mutex
	accounts map[orgctx.ID]*account
}

// open returns the account of an organization that has its first connection.
func (m *meter) open(org orgctx.ID) *account {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[org]
	if a == nil {
		a = &account{org: org}
		if m.accounts == nil {
			m.accounts = make(map[orgctx.ID]*account)
		}
		m.accounts[org] = a
	}
	a.count(1) // or forget could drop it
	return a
}

// all returns the accounts.
func (m *meter) all() []*account {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*account, 0, len(m.accounts))
	for _, a := range m.accounts {
		list = append(list, a)
	}
	return list
}

// forget drops the accounts of organizations without connections, once all that they have is measured.
func (m *meter) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for org, a := range m.accounts {
		if a.members.Load() == 0 && a.last == (sum{a.ended.Load(), a.endedBytes.Load()}) {
			delete(m.accounts, org)
		}
	}
}

// sums adds up what each organization's connections have delivered. It reads the accounts first: what
// a connection hands over while it ends is then missed until the next time, and never counts twice. No
// sum is less than an earlier one, or a counter in Prometheus would seem to have started over.
func (s *Server) sums() map[*account]sum {
	accounts := s.limits.meter.all()
	sums := make(map[*account]sum, len(accounts))
	for _, a := range accounts {
		sums[a] = sum{a.ended.Load(), a.endedBytes.Load()}
	}
	for _, c := range s.snapshot() {
		a := c.budget.account
		of := sums[a]
		of.deliveries += c.writer.tally.deliveries.Load()
		of.bytes += c.writer.tally.bytes.Load()
		sums[a] = of
	}
	for a, at := range sums {
		sums[a] = sum{raise(&a.high, at.deliveries), raise(&a.highBytes, at.bytes)}
	}
	return sums
}

// Measure returns what each organization has used since the last reset, and resets that if reset is
// set. Rates are those between two calls. Calls must not overlap.
func (s *Server) Measure(now time.Time, reset bool) []inventory.Usage {
	sums := s.sums()
	list := make([]inventory.Usage, 0, len(sums))
	for a, at := range sums {
		if passed := now.Sub(a.measured); !a.measured.IsZero() && passed > 0 {
			a.rate.Store(uint64(float64(at.deliveries-a.last.deliveries) * 1000 / passed.Seconds()))
		}
		a.last, a.measured = at, now
		list = append(list, inventory.Usage{
			Organization: a.org.String(), PeakConnections: int(a.peak.Load()),
			Deliveries: at.deliveries - a.start.deliveries, Bytes: at.bytes - a.start.bytes,
			LagSeconds: time.Duration(a.slowest.Load()).Seconds(),
		})
		if reset {
			a.start = at
			a.peak.Store(a.members.Load())
			a.slowest.Store(0)
		}
	}
	if reset {
		s.limits.meter.forget()
	}
	return list
}
