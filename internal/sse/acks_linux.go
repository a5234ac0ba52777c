package sse

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boundUnacknowledged ends the connection if its peer has not acknowledged bytes for that long
// (TCP_USER_TIMEOUT). A client of a stream never answers, so the kernel's acknowledgments of
// heartbeats are its only sign of life. Without a bound, the kernel would retry for a quarter of an
// hour.
func boundUnacknowledged(conn net.Conn, after time.Duration) error {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil // not TCP, as in tests
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var optionErr error
	err = raw.Control(func(fd uintptr) {
		optionErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
	if err != nil {
		return err
	}
	if errors.Is(optionErr, unix.ENOPROTOOPT) || errors.Is(optionErr, unix.EOPNOTSUPP) { // a Unix socket
		return nil
	}
	return optionErr
}
