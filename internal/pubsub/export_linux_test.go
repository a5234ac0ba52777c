package pubsub

import "net"

// SetBusy makes the next Read of a link's connection wait in the read itself, or in the poller.
func SetBusy(c net.Conn, busy bool) {
	if s, ok := c.(*socket); ok {
		s.pace.busy = busy
	}
}
