package pubsub

import "time"

const (
	// busyGap is the most that lies between reads of a busy link, and busyReads how many of them in
	// a row make it one.
	busyGap   = 2 * time.Millisecond
	busyReads = 16
	// quietGap ends that. It is below the 10 ms after which the Go runtime takes its share of the
	// processor away from a system call, and looks after system calls every 20 µs for a while.
	quietGap = 8 * time.Millisecond
	// lookInterval is how often the reader of a busy link checks whether other goroutines wait. It
	// lets them run first then: they might wait behind it. At yieldInterval it does so in any case.
	// That, too, with a pause before the next event, is below those 10 ms.
	lookInterval  = 500 * time.Microsecond
	yieldInterval = 7 * time.Millisecond
)

// pace tells a busy link from others, by the moments at which reads returned something.
type pace struct {
	last  time.Time
	close int // reads in a row, each soon after the one before
	busy  bool
}

// read takes note of a read.
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
