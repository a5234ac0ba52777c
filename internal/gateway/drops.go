package gateway

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
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

// dropped counts events that did not reach the connection, and logs it, rarely for each organization. Its caller
// may hold mu: nothing waits for the log.
func (c *conn) dropped(reason dropReason, n int) {
	if n == 0 {
		return
	}
	s := c.server
	s.metrics.dropped[reason].Add(uint64(n)) //nolint:gosec // it is not negative
	if count, due := c.budget.drops[reason].add(n, time.Now()); due {
		s.log.Warn("deliveries dropped", zap.Stringer("organization", c.identity.Organization), zap.Stringer("reason", reason),
			zap.Int64("count", count), zap.String("route", c.route.Pattern))
	}
}

// droppedFrames counts frames of the browser that no consumer handles. Where the time for them ran out it
// logs that, as dropped does; where the connection was ended its own line tells why. Its caller may hold mu.
func (c *conn) droppedFrames(n int, overdue bool) {
	switch {
	case n == 0:
	case !overdue:
		c.server.metrics.framesEnded.Add(uint64(n)) //nolint:gosec // it is not negative
	default:
		c.server.metrics.framesOverdue.Add(uint64(n)) //nolint:gosec // likewise
		if count, due := c.budget.overdue.add(n, time.Now()); due {
			c.server.log.Warn("messages dropped", zap.Stringer("organization", c.identity.Organization),
				zap.Int64("count", count), zap.String("route", c.route.Pattern))
		}
	}
}
