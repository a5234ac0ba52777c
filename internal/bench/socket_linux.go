package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance that another goroutine can wake. Waiting goes through the runtime's
// own poller, in which the epoll instance is one file like any other: a goroutine blocked in
// epoll_wait itself would keep the runtime busy looking for work that it holds up.
type poller struct {
	file   *os.File // the epoll instance
	raw    syscall.RawConn
	events [512]unix.EpollEvent

	mu     sync.Mutex
	wakeup int // an eventfd, -1 once closed
}

// wakeKey is the key of the eventfd in epoll.
const wakeKey = -1

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	file, err := pollable(epoll, "epoll")
	if err != nil {
		return nil, err
	}
	p := &poller{file: file, wakeup: -1}
	if p.raw, err = file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), p.close())
	}
	if p.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), p.close())
	}
	if err := p.control(unix.EPOLL_CTL_ADD, p.wakeup, unix.EPOLLIN, wakeKey, 0); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// pollable returns a file on which goroutines wait without blocking a thread. It owns fd.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// control changes what is waited for at fd. Key and generation come back with each event.
func (p *poller) control(op, fd int, events uint32, key, generation int32) (err error) {
	err = p.raw.Control(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), op, fd, &unix.EpollEvent{Events: events, Fd: key, Pad: generation})
	})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait returns what is ready, as soon as something is.
func (p *poller) wait() ([]unix.EpollEvent, error) {
	var n int
	var failed error
	err := p.raw.Read(func(epoll uintptr) bool {
		n, failed = unix.EpollWait(int(epoll), p.events[:], 0)
		if errors.Is(failed, unix.EINTR) {
			n, failed = 0, nil
		}
		return n != 0 || failed != nil
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	return p.events[:n], nil
}

// wake ends a wait at once. It may be called from any goroutine, also after close.
func (p *poller) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wakeup >= 0 {
		// A full counter, the only way to fail, means that the loop is awake already.
		_, _ = unix.Write(p.wakeup, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

// woken takes the wake-ups back.
func (p *poller) woken() {
	var counter [8]byte
	_, _ = unix.Read(p.wakeup, counter[:]) // there may be nothing to take back
}

func (p *poller) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.file.Close()
	if p.wakeup >= 0 {
		err = errors.Join(err, unix.Close(p.wakeup))
		p.wakeup = -1
	}
	return err
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
		// Without this option bind would take its own port for each socket, and the ports of
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

// dialed returns how connecting ended.
func dialed(fd int) error {
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
	return netip.AddrFrom4([4]byte{127, 0, byte(n >> 8), byte(n)}) //nolint:gosec // below 1<<16, see Options.validate
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
func openFilesLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	return int(min(limit.Cur, math.MaxInt32))
}

// defaultThreads is how many event loops a run uses unless told otherwise: a quarter of the
// processors, since the server and Redis need the others.
func defaultThreads() int { return min(max(runtime.NumCPU()/4, 1), 8) }

// sleeper sleeps with the precision of the kernel's timers; time.Sleep has that of the Go runtime's
// poller, which is a millisecond. It belongs to one goroutine.
type sleeper struct {
	timer *os.File
	raw   syscall.RawConn
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	timer, err := pollable(fd, "timer")
	if err != nil {
		return nil, err
	}
	raw, err := timer.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("timerfd: %w", err), timer.Close())
	}
	return &sleeper{timer: timer, raw: raw}, nil
}

// sleep returns after d. What is not positive takes no time.
func (s *sleeper) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	var setErr error
	err := s.raw.Control(func(fd uintptr) {
		setErr = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
	if err = errors.Join(err, setErr); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	var expirations [8]byte
	if _, err := s.timer.Read(expirations[:]); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	return nil
}

func (s *sleeper) close() error { return s.timer.Close() }

// readSocket reads from a non-blocking socket. It goes past the runtime's accounting of system
// calls, which pays off only for those that may block and would cost as much again as this one.
// b must not be empty.
func readSocket(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))) //nolint:gosec // b is alive and that long
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
