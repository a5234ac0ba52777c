package gateway

import (
	"net"
	"syscall"
	"unsafe"
)

// descriptor returns the descriptor of a plain TCP socket for [sendNow], or -1.
func descriptor(c net.Conn) int {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return -1
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	if err := raw.Control(func(s uintptr) { fd = int(s) }); err != nil {
		return -1
	}
	return fd
}

// sendNow sends what the socket takes at once, which may be nothing. The socket never blocks, so
// the runtime need not be told of the call: that, and the poller's book-keeping, are a fifth of
// the price of net.Conn.Write for a small frame. The caller keeps the socket from being closed.
func sendNow(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), //nolint:gosec // the bytes outlive the call
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EAGAIN, syscall.EINTR, syscall.ENOBUFS, syscall.ENOMEM:
		return 0, nil
	default:
		return 0, errno
	}
}
