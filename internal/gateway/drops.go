package gateway

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/outbox"
)

// dropReason is why an event did not reach a connection. The names are label values of
// orgcast_deliveries_dropped_total, too.
type dropReason int

const (
	dropTooSlow dropReason = iota // counts connections, which end
	dropOldest
	dropLatest
	dropReasons // their number
)

// dropReasonOf returns why events give way under a policy. (Under Disconnect none do.)
func dropReasonOf(policy consumer.WhenFull) dropReason {
	if policy == consumer.Latest {
		return dropLatest
	}
	return dropOldest
}

// String implements fmt.Stringer.
func (d dropReason) String() string { return [...]string{"too_slow", "drop_oldest", "latest"}[d] }

// dropsInterval is the shortest time between two log lines about one organization's drops for one
// reason.
const dropsInterval = 10 * time.Second

// drops counts what one organization has lost for one reason since the last log line. It is safe
// for concurrent use, and takes no lock, because fan-out adds to it.
type drops struct {
	count atomic.Int64
	next  atomic.Int64 // when the next log line may come, in Unix nanoseconds
}

// add counts drops, and reports whether a log line is due, and for how many.
func (d *drops) add(n int, now time.Time) (count int64, due bool) {
	d.count.Add(int64(n))
	next := d.next.Load()
	if now.UnixNano() < next || !d.next.CompareAndSwap(next, now.Add(dropsInterval).UnixNano()) {
		return 0, false
	}
	return d.count.Swap(0), true
}

// budget bounds what one organization takes of the node: what waits for its slow browsers, what its
// browsers have sent, and how many of its connections read histories at a time.
type budget struct {
	waiting outbox.Budget // bytes that wait for browsers
	ending  atomic.Int64  // bytes that connections hold that have ended and still have their time
	// received counts the bytes of messages from browsers: those that are still coming in, and
	// those that consumers have not handled yet.
	received atomic.Int64
	// line is the organization's line for reading histories. It holds the connections that wait for
	// a slot of the node or have one; the others wait for room in it.
	line chan struct{}
	// drops counts what its connections have lost, by reason.
	drops [dropReasons]drops
	// account is what the organization has used. It outlives the budget.
	account *account
	// overdue counts messages that no consumer handled in time after the browser had left.
	overdue drops
	// members counts the connections that share the budget. The owner of the map of budgets guards
	// it.
	members int
}

func newBudget(a *account) *budget {
	return &budget{line: make(chan struct{}, turnsAtOnce()), account: a}
}

// dropped counts events that did not reach the connection, and logs that, at most once per
// dropsInterval for each organization.
func (c *client) dropped(reason dropReason, n int) {
	if n == 0 {
		return
	}
	h := c.host
	h.metrics.dropped[reason].Add(uint64(n)) //nolint:gosec // it is not negative
	if count, due := c.budget.drops[reason].add(n, time.Now()); due {
		h.log.Warn("deliveries dropped", zap.Stringer("organization_id", c.identity.Organization), zap.Stringer("reason", reason),
			zap.Int64("count", count), zap.String("route", c.route.Pattern))
	}
}

// droppedFrames counts frames of the browser that no consumer handles. If the time for them ran
// out, it logs that as dropped does. If the connection was ended, the connection's own line tells
// why.
func (c *client) droppedFrames(n int, overdue bool) {
	switch {
	case n == 0:
	case !overdue:
		c.host.metrics.framesEnded.Add(uint64(n)) //nolint:gosec // it is not negative
	default:
		c.host.metrics.framesOverdue.Add(uint64(n)) //nolint:gosec // likewise
		if count, due := c.budget.overdue.add(n, time.Now()); due {
			c.host.log.Warn("messages dropped", zap.Stringer("organization_id", c.identity.Organization),
				zap.Int64("count", count), zap.String("route", c.route.Pattern))
		}
	}
}
