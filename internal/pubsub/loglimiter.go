package pubsub

import "time"

// logInterval is the least pause between two log lines about the same trouble: who can publish
// must not be able to fill the disk.
const logInterval = time.Second

// logLimiter lets one log line through per interval. It is for one goroutine.
type logLimiter struct {
	interval   time.Duration
	last       time.Time
	suppressed int
}

// allow reports whether to log now, and how many lines it held back since the last one.
func (l *logLimiter) allow(now time.Time) (suppressed int, ok bool) {
	if now.Sub(l.last) < l.interval {
		l.suppressed++
		return 0, false
	}
	suppressed, l.suppressed, l.last = l.suppressed, 0, now
	return suppressed, true
}
