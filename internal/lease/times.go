package lease

import "time"

// times are the period and the deadline of a Keeper.
type times struct{ period, deadline time.Duration }

// interval is the pause between two slots.
func (t *times) interval() time.Duration {
	return max(t.period/(slotCount+reserve), time.Millisecond)
}

// SetTimes replaces Period and Deadline, also for connections that are held already. Like those of
// [Options], the deadline must be longer than the period.
func (k *Keeper) SetTimes(period, deadline time.Duration) {
	k.times.Store(&times{period, deadline})
	select {
	case k.retimed <- struct{}{}:
	default: // it is about to look
	}
}

// clock returns a moment in milliseconds since the Keeper's start. It wraps around after 49 days, so
// only differences count.
func (k *Keeper) clock(t time.Time) uint32 {
	return uint32(t.Sub(k.started) / time.Millisecond) //nolint:gosec // it wraps around
}
