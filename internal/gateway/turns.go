package gateway

import (
	"context"
	"runtime"
	"sync"
	"time"

	"orgcast/internal/event"
)

// inTurn calls begin when it is the connection's turn. begin reads a history, sends what it makes
// of it and returns how many bytes it has read. A page can ask for that in a message of 20 bytes,
// and a long history takes tens of milliseconds: without turns, a few pages that ask as fast as
// they may would take all cores, and Redis, from everyone else. Organizations take turns, and so do
// the connections within each.
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
	// turnBytesPerSecond is how fast histories are read, in the long run and for every two cores.
	// Processing them then takes a fifth of a core at most. turnBurst may be read at once before
	// that limit applies: thousands of pages that come back and have missed little.
	turnBytesPerSecond = 8 << 20
	turnBurst          = 4 << 20
	// turnBytes is the least that a turn counts for.
	turnBytes = 512
)

// turnsAtOnce is how many histories are read at a time for one organization: half as many as there
// are cores. For all organizations together it is twice that, so that one organization does not
// keep others waiting.
func turnsAtOnce() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// turns bounds how fast all organizations together read histories. It is safe for concurrent use.
type turns struct {
	// slots has an element for each turn that runs, or has ended and whose bytes are not paid for
	// yet. Waiting connections are served in their order.
	slots chan struct{}

	mu   sync.Mutex
	paid time.Time // when everything that was read is paid for
}

// end ends a turn that has read this many bytes. Its slot is free when they are paid for.
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
