package socket

import "net"

// GiveWay closes a connection of a server, without the close message of TLS, which could wait for the
// peer. It does nothing if [Upgrade] has taken the connection: a [Conn] uses the descriptor, which
// must not become another socket's.
func GiveWay(c net.Conn) {
	if below := carrierOf(c); below != nil {
		below.giveWay()
		return
	}
	_ = c.Close() // an error changes nothing: it is closed; a connection on loan sees to the rest
}
