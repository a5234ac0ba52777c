package pubsub

import "net"

// SetBusy has the next Read of a link's connection wait in the read itself, or not.
func SetBusy(c net.Conn, busy bool) {
	if s, ok := c.(*socket); ok {
		s.pace.busy = busy
	}
}
