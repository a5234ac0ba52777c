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

// dropReasonOf returns why events give way by a policy. (By Disconnect none does.)
func dropReasonOf(policy consumer.WhenFull) dropReason {
	if policy == consumer.Latest {
		return dropLatest
	}
	return dropOldest
}

// String implements fmt.Stringer.
func (d dropReason) String() string { return [...]string{"too_slow", "drop_oldest", "latest"}[d] }

// dropsInterval is the least pause between two log lines about what one organization loses for one reason.
const dropsInterval = 10 * time.Second

// drops counts what one organization has lost for one reason since the log last said so. It is safe for
// concurrent use, and takes no lock: fan-out moves it.
type drops struct {
	count atomic.Int64
	next  atomic.Int64 // when the log may say it again, in Unix nanoseconds
}

// add counts and reports whether a line is due, and for how many drops.
func (d *drops) add(n int, now time.Time) (count int64, due bool) {
	d.count.Add(int64(n))
	next := d.next.Load()
	if now.UnixNano() < next || !d.next.CompareAndSwap(next, now.Add(dropsInterval).UnixNano()) {
		return 0, false
	}
	return d.count.Swap(0), true
}

// budget bounds what one organization has of the node: what waits for all its slow browsers, what is
// held of all that its browsers sent, and how many of its connections stand in line for histories.
type budget struct {
	waiting outbox.Budget // bytes that wait for browsers
	// received is the bytes held of what browsers sent: messages on their way in, and those that
	// consumers have not handled yet.
	received atomic.Int64
	// line holds the one connection that waits for a turn at a history or has it; the others of the
	// organization stand behind it.
	line chan struct{}
	// drops counts what its connections have lost, by reason.
	drops [dropReasons]drops
	// overdue counts messages that no consumer handled in time after their browser had left.
	overdue drops
	// members counts the connections that share it; the owner of the map of budgets guards it.
	members int
}

func newBudget() *budget { return &budget{line: make(chan struct{}, turnsAtOnce())} }

// dropped counts events that did not reach the connection, and logs it, rarely for each organization.
func (c *client) dropped(reason dropReason, n int) {
	if n == 0 {
		return
	}
	h := c.host
	h.metrics.dropped[reason].Add(uint64(n)) //nolint:gosec // it is not negative
	if count, due := c.budget.drops[reason].add(n, time.Now()); due {
		h.log.Warn("deliveries dropped", zap.Stringer("organization", c.identity.Organization), zap.Stringer("reason", reason),
			zap.Int64("count", count), zap.String("route", c.route.Pattern))
	}
}

// droppedFrames counts frames of the browser that no consumer handles. Where the time for them ran out it
// logs that, as dropped does; where the connection was ended its own line tells why.
func (c *client) droppedFrames(n int, overdue bool) {
	switch {
	case n == 0:
	case !overdue:
		c.host.metrics.framesEnded.Add(uint64(n)) //nolint:gosec // it is not negative
	default:
		c.host.metrics.framesOverdue.Add(uint64(n)) //nolint:gosec // likewise
		if count, due := c.budget.overdue.add(n, time.Now()); due {
			c.host.log.Warn("messages dropped", zap.Stringer("organization", c.identity.Organization),
				zap.Int64("count", count), zap.String("route", c.route.Pattern))
		}
	}
}
