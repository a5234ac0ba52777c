package outgoing

import (
	"maps"
	"sync"
	"time"

	"orgcast/internal/orgctx"
)

const (
	// failuresInARow open the circuit.
	failuresInARow = 5
	// openFor is how long it stays open. Then one call tries whether the receiver is back.
	openFor = 5 * time.Second
	// maxFailing is how many organizations are known to fail before those that have stopped calling
	// are forgotten.
	maxFailing = 10_000
)

// circuit stops calls to a receiver that fails. It does so for each organization by itself: members
// of one may know a message that the receiver fails at, and must not be able to cut off the others.
type circuit struct {
	now func() time.Time

	mu      sync.Mutex
	failing map[orgctx.ID]*failing // without those whose last call succeeded
}

type failing struct {
	failures int       // in a row
	until    time.Time // the circuit is open until then
	trying   bool      // one call finds out whether the receiver is back
}

func newCircuit(now func() time.Time) *circuit {
	return &circuit{now: now, failing: make(map[orgctx.ID]*failing)}
}

// allows reports whether a call may be made. If so, one of failed, succeeded and abandoned follows.
func (c *circuit) allows(org orgctx.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.failing[org]
	if f == nil || f.failures < failuresInARow {
		return true
	}
	if f.trying || c.now().Before(f.until) {
		return false
	}
	f.trying = true
	return true
}

func (c *circuit) failed(org orgctx.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.failing[org]
	if f == nil {
		if len(c.failing) >= maxFailing {
			maps.DeleteFunc(c.failing, func(_ orgctx.ID, f *failing) bool { return !f.trying && !c.now().Before(f.until) })
		}
		f = new(failing)
		c.failing[org] = f
	}
	f.failures++
	f.trying = false
	f.until = c.now().Add(openFor)
}

func (c *circuit) succeeded(org orgctx.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.failing, org)
}

// abandoned notes a call that says nothing of the receiver.
func (c *circuit) abandoned(org orgctx.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.failing[org]; f != nil {
		f.trying = false
	}
}
