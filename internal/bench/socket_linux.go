package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance that another goroutine can wake.
type poller struct {
	epoll  int
	wakeup int // an eventfd
	events [512]unix.EpollEvent
}

// wakeKey is the key of the eventfd in epoll.
const wakeKey = -1

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wakeup, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(epoll))
	}
	p := &poller{epoll: epoll, wakeup: wakeup}
	if err := p.control(unix.EPOLL_CTL_ADD, wakeup, unix.EPOLLIN, wakeKey, 0); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// control changes what is waited for at fd. Key and generation come back with each event.
func (p *poller) control(op, fd int, events uint32, key, generation int32) error {
	err := unix.EpollCtl(p.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: key, Pad: generation})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait returns what is ready; nothing, if that is nothing within the timeout.
func (p *poller) wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.epoll, p.events[:], int(timeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	return p.events[:max(n, 0)], nil
}

// wake ends a wait at once. It may be called from any goroutine until close.
func (p *poller) wake() {
	// A full counter, the only way to fail, means that the loop is awake already.
	_, _ = unix.Write(p.wakeup, binary.NativeEndian.AppendUint64(nil, 1))
}

// woken takes the wake-ups back.
func (p *poller) woken() {
	var counter [8]byte
	_, _ = unix.Read(p.wakeup, counter[:])
}

func (p *poller) close() error {
	return errors.Join(unix.Close(p.wakeup), unix.Close(p.epoll))
}

// stalledBuffer is the receive buffer of connections that will stop reading, in bytes: small, so
// that the server soon notices.
const stalledBuffer = 4 << 10

// dial starts to connect a non-blocking socket. A valid source is the local address to use;
// without it the kernel chooses.
func dial(target netip.AddrPort, source netip.Addr, stalled bool) (fd int, err error) {
	family := unix.AF_INET
	if target.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
			fd = -1
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fd, fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	if stalled {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, stalledBuffer); err != nil {
			return fd, fmt.Errorf("set SO_RCVBUF: %w", err)
		}
	}
	if source.IsValid() {
		// Without this option bind would take a port of its own for each socket, and the ports of
		// one address would have to suffice for all targets.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fd, fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
			return fd, fmt.Errorf("bind %s: %w", source, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(target)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fd, fmt.Errorf("connect %s: %w", target, err)
	}
	return fd, nil
}

// dialled returns how connecting ended.
func dialled(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("get SO_ERROR: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("connect: %w", unix.Errno(code))
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// sourceAddress returns the local address of the connection with this index: one of count loopback
// addresses from 127.0.0.2 on, because one address has only some 28,000 ports. For targets
// elsewhere the kernel chooses.
func sourceAddress(target netip.Addr, index, count int) netip.Addr {
	if !target.Is4() || !target.IsLoopback() || count <= 1 {
		return netip.Addr{}
	}
	n := index%count + 2
	return netip.AddrFrom4([4]byte{127, 0, byte(n >> 8), byte(n)})
}

// processCPU returns the CPU time of this process, user and system.
func processCPU() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// isTerminal reports whether w shows its text to a person.
func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// openFilesLimit returns how many files this process may have open.
func openFilesLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	return limit.Cur
}

// defaultThreads is how many event loops a run uses unless told otherwise: a quarter of the
// processors, since the server and Redis need the others.
func defaultThreads() int { return min(max(runtime.NumCPU()/4, 1), 8) }


// pause sleeps with the precision of the kernel's timers; time.Sleep has that of the Go runtime's
// poller, which is a millisecond.
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal may end it early, which no caller minds
}
