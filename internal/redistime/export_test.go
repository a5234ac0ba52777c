package redistime

import "time"

// SetNow sets the clock of this machine.
func (c *Clocks) SetNow(now func() time.Time) { c.now = now }
