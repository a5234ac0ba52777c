package pubsub

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	runtimemetrics "runtime/metrics"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is the TCP connection of a link. While the link is quiet, a read waits in the runtime's
// poller, as in every Go program. While it is busy, the read itself blocks. Then an arriving event
// wakes one thread. The poller's way takes two reads, a wait, and a second thread that wakes to
// find nothing to do. For an event that goes to a few browsers, that costs as much as the rest of
// its way (see docs/decisions/0015-busy-link.md).
//
// One goroutine at a time may call Read, and one may call Write.
type socket struct {
	local, remote net.Addr
	file          *os.File // blocking, and unknown to the runtime's poller
	raw           syscall.RawConn
	closing       sync.Once
	bounded       atomic.Bool  // a read deadline is set
	writeBy       atomic.Int64 // write deadline in Unix nanoseconds, 0 for none

	// The runtime's poller waits on gate, an epoll that watches the socket only while open is set.
	// So the socket of a busy link wakes only its reader.
	gate    *os.File
	gateRaw syscall.RawConn

	// Owned by Read.
	pace    pace
	open    bool
	looked  time.Time
	yielded time.Time
	waiting []runtimemetrics.Sample // the number of runnable goroutines
	// Used by poll. The functions are bound once, so that poll does not allocate.
	tryReceive func(uintptr) bool
	receive    func(uintptr)
	buffer     []byte
	received   int
	receiveErr error
}

// newSocket takes over the socket of a plain TCP connection, which must not be used afterwards. It
// returns other connections, such as TLS, unchanged.
func newSocket(c net.Conn) (net.Conn, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	s := &socket{
		local: tcp.LocalAddr(), remote: tcp.RemoteAddr(),
		waiting: []runtimemetrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}},
	}
	s.tryReceive, s.receive = s.receiveOnce, s.receiveNow
	err := s.takeOver(tcp)
	if err = errors.Join(err, tcp.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), s.Close())
	}
	return s, nil
}

func (s *socket) takeOver(tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		var own int
		if own, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); dupErr != nil {
			return
		}
		dupErr = unix.SetNonblock(own, false)
		s.file = os.NewFile(uintptr(own), "link")
	})
	if err := errors.Join(err, dupErr); err != nil {
		return err
	}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return err
	}
	gate, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	err = unix.SetNonblock(gate, true) // the poller requires it
	s.gate = os.NewFile(uintptr(gate), "link gate")
	if err != nil {
		return err
	}
	if s.gateRaw, err = s.gate.SyscallConn(); err != nil {
		return err
	}
	return s.setGate(true)
}

// setGate adds the socket to the gate, or removes it.
func (s *socket) setGate(open bool) error {
	if open == s.open {
		return nil
	}
	s.open = open
	operation, interest := unix.EPOLL_CTL_DEL, (*unix.EpollEvent)(nil)
	if open { // data that has arrived already counts
		operation, interest = unix.EPOLL_CTL_ADD, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP}
	}
	var controlErr error
	err := s.gateRaw.Control(func(gate uintptr) {
		err := s.raw.Control(func(fd uintptr) { controlErr = unix.EpollCtl(int(gate), operation, int(fd), interest) })
		controlErr = errors.Join(err, controlErr)
	})
	if err := errors.Join(err, controlErr); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Read implements net.Conn. A deadline set while a busy link reads has no effect on that Read.
// Close ends it.
func (s *socket) Read(b []byte) (n int, err error) {
	busy := s.pace.busy && !s.bounded.Load()
	if err := s.setGate(!busy); err != nil {
		return 0, err
	}
	if busy {
		s.yield(time.Now())
		n, err = s.file.Read(b)
	} else {
		n, err = s.poll(b)
	}
	if err == nil {
		s.pace.read(time.Now())
	}
	return n, err
}

// yield lets other goroutines run first if it is time. That costs some 20 µs, because the runtime
// wakes another thread for it. Checking whether any goroutine waits costs next to nothing.
func (s *socket) yield(now time.Time) {
	if now.Sub(s.looked) < lookInterval {
		return
	}
	s.looked = now
	runtimemetrics.Read(s.waiting)
	if s.waiting[0].Value.Uint64() > 0 || now.Sub(s.yielded) >= yieldInterval {
		s.yielded = now
		runtime.Gosched()
	}
}

// poll waits in the runtime's poller until there is something to read, and reads it.
func (s *socket) poll(b []byte) (int, error) {
	s.buffer = b
	err := s.gateRaw.Read(s.tryReceive)
	s.buffer = nil
	switch {
	case err != nil:
		return 0, err
	case s.receiveErr != nil:
		return 0, os.NewSyscallError("recvfrom", s.receiveErr)
	case s.received == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return s.received, nil
}

// receiveOnce reads without waiting, and reports whether poll is done.
func (s *socket) receiveOnce(uintptr) (done bool) {
	if err := s.raw.Control(s.receive); err != nil {
		s.receiveErr = err // closed
	}
	return !errors.Is(s.receiveErr, unix.EAGAIN)
}

func (s *socket) receiveNow(fd uintptr) {
	for {
		s.received, _, s.receiveErr = unix.Recvfrom(int(fd), s.buffer, unix.MSG_DONTWAIT)
		if !errors.Is(s.receiveErr, unix.EINTR) {
			return
		}
	}
}

// Write implements net.Conn. It blocks its thread until there is room, because a link sends little
// and Redis reads it at once.
func (s *socket) Write(b []byte) (written int, err error) {
	for written < len(b) {
		var n int
		var sendErr error
		err := s.raw.Control(func(fd uintptr) { n, sendErr = s.send(int(fd), b[written:]) })
		if err := errors.Join(err, sendErr); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// send writes what fits, and waits for room if nothing does, until the deadline.
func (s *socket) send(fd int, b []byte) (int, error) {
	for {
		wait := -1 // forever
		if by := s.writeBy.Load(); by != 0 {
			left := time.Until(time.Unix(0, by))
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			wait = int(left/time.Millisecond) + 1
		}
		n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err == nil {
			return n, nil
		}
		if errors.Is(err, unix.EAGAIN) {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, wait) //nolint:gosec // descriptors are small
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("send", err)
		}
	}
}

// Close implements net.Conn. It ends a waiting Read and a waiting Write.
func (s *socket) Close() (err error) {
	s.closing.Do(func() {
		if s.raw != nil {
			_ = s.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }) // the peer may have ended it
		}
		for _, f := range []*os.File{s.gate, s.file} {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	})
	return err
}

// LocalAddr implements net.Conn.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn, except as described at [socket.Read].
func (s *socket) SetReadDeadline(t time.Time) error {
	if bounded := !t.IsZero(); s.bounded.Swap(bounded) || bounded {
		return s.gate.SetReadDeadline(t)
	}
	return nil // no deadline was set; go-redis sets none before each message
}

// SetWriteDeadline implements net.Conn. A Write that waits for room uses it only in its next wait.
func (s *socket) SetWriteDeadline(t time.Time) error {
	by := int64(0)
	if !t.IsZero() {
		by = t.UnixNano()
	}
	s.writeBy.Store(by)
	return nil
}
