// Package loglimit bounds how often the same trouble is logged: who can cause it must not be able
// to fill the disk.
package loglimit

import "time"

// Interval is the least pause between two lines of a [Limiter] that has none of its own.
const Interval = time.Second

// Limiter lets one log line through per interval. The zero Limiter is ready. It is not safe for
// concurrent use.
type Limiter struct {
	Interval time.Duration // default: [Interval]

	last       time.Time
	suppressed int
}

// Allow reports whether to log now, and how many lines it held back since the last one.
func (l *Limiter) Allow(now time.Time) (suppressed int, ok bool) {
	interval := l.Interval
	if interval == 0 {
		interval = Interval
	}
	if now.Sub(l.last) < interval {
		l.suppressed++
		return 0, false
	}
	suppressed, l.suppressed, l.last = l.suppressed, 0, now
	return suppressed, true
}
