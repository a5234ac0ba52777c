//go:build !linux

package socket

import (
	"net"
	"syscall"
)

// descriptor returns nil: on this system every read and write may wait, each in its own goroutine.
func descriptor(net.Conn) (syscall.RawConn, int) { return nil, -1 }

// sendNow sends nothing.
func sendNow(int, []byte) (int, error) { return 0, nil }

// receiveNow receives nothing.
func receiveNow(int, []byte) (n int, again bool, err error) { return 0, true, nil }

// readable is never called.
func readable(uintptr) bool { return true }
