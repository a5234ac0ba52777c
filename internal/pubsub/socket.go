package pubsub

import "time"

const (
	// busyGap is the longest pause between reads of a busy link, and busyReads is how many such
	// reads in a row make a link busy.
	busyGap   = 2 * time.Millisecond
	busyReads = 16
	// quietGap ends that. It is below the 10 ms after which the Go runtime takes the processor away
	// from a system call, and then checks system calls every 20 µs for a while.
	quietGap = 8 * time.Millisecond
	// lookInterval is how often the reader of a busy link checks whether other goroutines wait. If
	// so, it lets them run first, because they might otherwise wait for it. At yieldInterval it
	// does so in any case. yieldInterval plus a pause before the next event is also below those 10
	// ms.
	lookInterval  = 500 * time.Microsecond
	yieldInterval = 7 * time.Millisecond
)

// pace detects a busy link by the times of its reads.
type pace struct {
	last  time.Time
	close int // reads in a row, each soon after the one before
	busy  bool
}

// read records a read.
func (p *pace) read(now time.Time) {
	gap := now.Sub(p.last)
	p.last = now
	switch {
	case gap > quietGap:
		p.close, p.busy = 0, false
	case gap > busyGap:
		p.close = 0
	default:
		p.close++
		p.busy = p.busy || p.close >= busyReads
	}
}
