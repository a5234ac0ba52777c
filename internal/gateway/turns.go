package gateway

import (
	"context"
	"runtime"
	"sync"
	"time"

	"orgcast/internal/event"
)

// inTurn calls begin, which reads a history, sends what it makes of it and returns how many bytes it has
// read, when it is the connection's turn. A page may ask for that in a message of 20 bytes, and of a long
// history it takes tens of milliseconds: a few pages that ask as fast as they may would else keep all
// cores, and Redis, from everybody. Organizations take turns, and the connections of each within it.
func (c *client) inTurn(ctx context.Context, begin func() (newest event.Position, bytes int, err error)) (event.Position, error) {
	if err := c.awaitTurn(ctx); err != nil {
		return event.Position{}, err
	}
	defer func() { <-c.budget.line }()
	bytes := 0
	defer func() { c.host.turns.end(bytes) }() // also if begin panics
	newest, bytes, err := begin()
	return newest, err
}

// awaitTurn takes a place in the organization's line, and then one of the node's slots.
func (c *client) awaitTurn(ctx context.Context) error {
	started := time.Now()
	c.host.metrics.historyWaiting.Inc()
	defer func() {
		c.host.metrics.historyWaiting.Dec()
		c.host.metrics.historyWait.Observe(time.Since(started).Seconds())
	}()
	select {
	case c.budget.line <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case c.host.turns.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-c.budget.line
		return context.Cause(ctx)
	}
}

const (
	// turnBytesPerSecond is how fast histories are read, in the long run and for every two cores: what is made of
	// them then takes a fifth of a core at most. turnBurst is what may be read at once before that counts:
	// thousands of pages that come back and have missed little.
	turnBytesPerSecond = 8 << 20
	turnBurst          = 4 << 20
	// turnBytes is what a turn counts for at least.
	turnBytes = 512
)

// turnsAtOnce is how many histories are read at a time for one organization: as many as half of the
// cores. For all together it is twice as many, so that one alone does not keep others waiting.
func turnsAtOnce() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// turns bounds what all organizations together make of histories. It is safe for concurrent use.
type turns struct {
	// slots holds one for each turn, and for each that has ended and whose bytes are not earned yet. Those
	// who wait are served in their order.
	slots chan struct{}

	mu   sync.Mutex
	paid time.Time // until then what was read is earned
}

// end ends a turn that has read so many bytes. The next begins when they are earned.
func (t *turns) end(bytes int) {
	rate := float64(turnBytesPerSecond * turnsAtOnce())
	cost := func(n int) time.Duration { return time.Duration(float64(n) / rate * float64(time.Second)) }
	now := time.Now()
	t.mu.Lock()
	if t.paid.Before(now) {
		t.paid = now
	}
	t.paid = t.paid.Add(cost(max(bytes, turnBytes)))
	pause := t.paid.Sub(now) - cost(turnBurst)
	t.mu.Unlock()
	if pause <= 0 {
		<-t.slots
		return
	}
	time.AfterFunc(pause, func() { <-t.slots })
}
