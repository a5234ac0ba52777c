package bench

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer holds the result of one read, after a frame that was incomplete.
	readBuffer = maxFrame + 1<<20
	// retryDelay is the pause before a connection that the server refused or ended is opened again.
	retryDelay = 250 * time.Millisecond
	// goingAway is the close code of a closed page.
	goingAway = 1001
	// abnormal means an end without a close frame.
	abnormal = 1006
)

// counters count what a loop has seen since its start. They are read while it runs.
type counters struct {
	deliveries, noisyDeliveries   atomic.Int64
	bytes                         atomic.Int64
	lost, noisyLost               atomic.Int64
	duplicated, reordered         atomic.Int64
	foreign, gaps, unexpected     atomic.Int64
	handshakes, refused           atomic.Int64
	dropped, noisyDropped         atomic.Int64 // connections that the server ended
	stalledClosed, ready, waiting atomic.Int64
}

// loop serves a share of the connections in one goroutine.
type loop struct {
	// Fixed after construction.
	run     *run
	poller  *poller
	clients []*client
	// parallel is how many handshakes may be in progress at once.
	parallel atomic.Int64

	// Owned by serve.
	buf       []byte
	inflater  *inflater
	opening   int
	queue     []*client // to be opened
	latency   histogram // publish to browser
	noisy     histogram // the same for the noisy organization
	handshake histogram // connect to ready
	closing   bool      // the run is over; nothing is opened anymore
	stop      bool

	counters counters

	mu       sync.Mutex
	commands []func()
}

// do makes the loop run fn between two batches of events, and does not wait for it.
func (l *loop) do(fn func()) {
	l.mu.Lock()
	l.commands = append(l.commands, fn)
	l.mu.Unlock()
	l.poller.wake()
}

// serve runs until a command sets stop.
func (l *loop) serve() (err error) {
	nap, err := newSleeper()
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range l.clients {
			l.hangUp(c)
		}
		err = errors.Join(err, nap.close(), l.poller.close())
	}()
	for !l.stop {
		events, err := l.poller.wait()
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Fd == wakeKey {
				l.poller.woken()
				continue
			}
			c := l.clients[e.Fd]
			if c.generation == e.Pad && c.state != closed {
				l.handle(c, e.Events)
			}
		}
		l.obey()
		l.open()
		if len(events) < len(l.poller.events)/2 {
			if err := nap.sleep(l.run.opts.Nap); err != nil {
				return err
			}
		}
	}
	return nil
}

// obey runs functions that were passed to do.
func (l *loop) obey() {
	l.mu.Lock()
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, fn := range commands {
		fn()
	}
}

// enqueue schedules a closed connection for opening.
func (l *loop) enqueue(c *client) {
	l.queue = append(l.queue, c)
	l.counters.waiting.Add(1)
}

// open starts as many handshakes as may be in progress.
func (l *loop) open() {
	if l.closing {
		return
	}
	for len(l.queue) > 0 && l.opening < int(l.parallel.Load()) {
		c := l.queue[0]
		l.queue = l.queue[1:]
		l.counters.waiting.Add(-1)
		if c.state == closed {
			l.connect(c)
		}
	}
}

func (l *loop) connect(c *client) {
	source := sourceAddress(c.server.addr.Addr(), c.index, l.run.opts.Sources)
	fd, err := dial(c.server.addr, source, c.stalled)
	if err != nil {
		l.run.fail(err)
		return
	}
	c.fd, c.state, c.started = fd, connecting, l.run.clock.now()
	l.opening++
	if err := l.poller.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLOUT, c.key, c.generation); err != nil {
		l.run.fail(err)
	}
}

// stall stops reading from the connections that should stall.
func (l *loop) stall() {
	for _, c := range l.clients {
		if c.stalled && c.state == ready {
			if err := l.poller.control(unix.EPOLL_CTL_DEL, c.fd, 0, 0, 0); err != nil {
				l.run.fail(err)
			}
		}
	}
}

// resume reads again, so that events for stalled connections are checked too.
func (l *loop) resume() {
	for _, c := range l.clients {
		if c.stalled && c.state == ready {
			if err := l.poller.control(unix.EPOLL_CTL_ADD, c.fd, unix.EPOLLIN, c.key, c.generation); err != nil {
				l.run.fail(err)
			}
		}
	}
}
