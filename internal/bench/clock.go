package bench

import "time"

// clock returns nanoseconds since 1970 that never jump, even if the machine's time is set.
type clock struct {
	start time.Time
	base  int64
}

func newClock() clock {
	start := time.Now()
	return clock{start: start, base: start.UnixNano()}
}

func (c clock) now() int64 { return c.base + int64(time.Since(c.start)) }
