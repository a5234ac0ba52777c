package gateway

import (
	"errors"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// errIntakeFull ends a connection whose frame has no room in what its organization may have taken in.
var errIntakeFull = errors.New("gateway: the organization's receive budget is used up")

// intake is the budget of the organization, as the [transport] of a connection uses it.
type intake struct{ conn *conn }

// Take implements socket.Budget.
func (in intake) Take(bytes int) error {
	c := in.conn
	if c.budget.received.Add(int64(bytes)) <= int64(c.server.options.ReceiveBytesPerOrganization) {
		return nil
	}
	in.Give(bytes)
	c.server.metrics.intakeFull.Add(1)
	return errIntakeFull
}

// Give implements socket.Budget.
func (in intake) Give(bytes int) { in.conn.budget.received.Add(-int64(bytes)) }

// letGo gives back what a frame counts for from its last byte until its consumer has handled it.
func (c *conn) letGo(f event.Frame) { intake{c}.Give(socket.Held(f.Data)) }

// receivedBytes adds up what is held of what browsers sent, when metrics are asked for.
func (l *limits) receivedBytes() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total int64
	for _, b := range l.budgets {
		total += b.received.Load()
	}
	return float64(total)
}
