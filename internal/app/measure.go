package app

import (
	"context"
	"time"

	"orgcast/internal/inventory"
)

const (
	// measureInterval is the time over which rates are averaged.
	measureInterval = 10 * time.Second
	// keepAccounts is how long at least a node remembers what an organization without connections
	// has used.
	keepAccounts = time.Hour
)

// meter measures what organizations use of this node. Package gateway implements it.
type meter interface {
	Measure(now time.Time, reset bool) []inventory.Usage
}

// measure measures until ctx ends, so that there are rates, and so that organizations that are gone
// do not stay in memory.
func measure(ctx context.Context, m meter) {
	ticker := time.NewTicker(measureInterval)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			reset := now.Sub(last) >= keepAccounts
			if reset {
				last = now
			}
			m.Measure(now, reset)
		}
	}
}
