package bench

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer holds what one read returns and, before it, a frame that was incomplete.
	readBuffer = maxFrame + 1<<20
	// retryDelay is the pause before a connection that the server refused or ended is opened again.
	retryDelay = 250 * time.Millisecond
	// goingAway is the close code of a page that is left.
	goingAway = 1001
	// abnormal stands for an end without close frame.
	abnormal = 1006
)

// counters are what a loop has seen since its start. They are read while it runs.
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
	// parallel is how many handshakes may be under way at once.
	parallel atomic.Int64

	// Owned by serve.
	buf       []byte
	inflater  *inflater
	opening   int
	queue     []*client // to be opened
	latency   histogram // publish to browser
	noisy     histogram // the same for the noisy organisation
	handshake histogram // connect to ready
	closing   bool      // the run is over; nothing is opened any more
	stop      bool

	counters counters

	mu       sync.Mutex
	commands []func()
}

// do has the loop run fn between two batches of events, and does not wait for it.
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

// obey runs what others asked for.
func (l *loop) obey() {
	l.mu.Lock()
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, fn := range commands {
		fn()
	}
}

// enqueue has a closed connection opened soon.
func (l *loop) enqueue(c *client) {
	l.queue = append(l.queue, c)
	l.counters.waiting.Add(1)
}

// open starts as many handshakes as may be under way.
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
	source := sourceAddress(l.run.target.Addr(), c.index, l.run.opts.Sources)
	fd, err := dial(l.run.target, source, c.stalled)
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

// handle serves one socket that is ready for something.
func (l *loop) handle(c *client, events uint32) {
	if c.state == connecting {
		if err := dialled(c.fd); err != nil {
			l.ended(c, err)
			return
		}
		c.state = upgrading
		c.out = append(c.out[:0], c.request...)
		l.flush(c, true)
		return
	}
	if events&unix.EPOLLOUT != 0 {
		l.flush(c, true)
	}
	if events&^unix.EPOLLOUT != 0 && c.state != closed {
		l.read(c)
	}
}

// send writes b, now or when the socket has room.
func (l *loop) send(c *client, b []byte) {
	waiting := len(c.out) > 0
	c.out = append(c.out, b...)
	if !waiting {
		l.flush(c, false)
	}
}

// flush writes what waits to be written. waited tells that epoll watches for room already.
func (l *loop) flush(c *client, waited bool) {
	n, err := unix.Write(c.fd, c.out)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.ended(c, fmt.Errorf("write: %w", err))
		return
	}
	c.out = append(c.out[:0], c.out[max(n, 0):]...)
	interest := uint32(unix.EPOLLIN)
	switch {
	case len(c.out) > 0 && !waited:
		interest |= unix.EPOLLOUT
	case len(c.out) > 0 || !waited:
		return
	default:
		c.out = nil // most connections never write again
	}
	if err := l.poller.control(unix.EPOLL_CTL_MOD, c.fd, interest, c.key, c.generation); err != nil {
		l.run.fail(err)
	}
}

// read takes what has arrived and handles every complete frame in it.
func (l *loop) read(c *client) {
	kept := copy(l.buf, c.partial)
	n, err := readSocket(c.fd, l.buf[kept:])
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return
	case err != nil:
		l.ended(c, fmt.Errorf("read: %w", err))
		return
	case n == 0:
		l.ended(c, &refusal{code: abnormal})
		return
	}
	b := l.buf[:kept+n]
	if c.state == upgrading {
		size, deflated, err := parseUpgrade(b)
		if err != nil {
			if !errors.As(err, new(*refusal)) {
				l.run.fail(err)
			}
			l.ended(c, err)
			return
		}
		if size == 0 {
			c.partial = append(c.partial[:0], b...)
			return
		}
		b = b[size:]
		l.upgraded(c, deflated)
	}
	l.frames(c, b)
}

// upgraded notes that the connection speaks WebSocket now.
func (l *loop) upgraded(c *client, deflated bool) {
	c.deflated = deflated
	c.state = subscribing
	if l.run.bare {
		for i := range c.memberships {
			c.memberships[i].confirm()
		}
		l.becomeReady(c)
	}
}

// frames handles every complete frame in b and keeps the rest.
func (l *loop) frames(c *client, b []byte) {
	var deliveries int64
	now := l.run.clock.now()
	size := len(b)
	for {
		f, n, err := nextFrame(b)
		if err != nil {
			l.run.fail(err)
			return
		}
		if n == 0 {
			break
		}
		b = b[n:]
		if f.opcode == opText && f.final && !f.compressed {
			if d, ok := parseDelivery(f.payload, c.org.head); ok {
				deliveries++
				l.deliver(c, d, now)
				continue
			}
		}
		l.frame(c, f, now)
		if c.state == closed {
			break
		}
	}
	if deliveries > 0 {
		l.countDeliveries(c, deliveries)
	}
	l.counters.bytes.Add(int64(size - len(b)))
	if c.state != closed {
		c.partial = append(c.partial[:0], b...)
		if len(b) == 0 && cap(c.partial) > 4<<10 {
			c.partial = nil
		}
	}
}

func (l *loop) countDeliveries(c *client, n int64) {
	if c.org.noisy {
		l.counters.noisyDeliveries.Add(n)
	} else {
		l.counters.deliveries.Add(n)
	}
}

// deliver accounts for one event of the connection's organisation.
func (l *loop) deliver(c *client, d delivery, now int64) {
	m := c.membership(d.room)
	if m == nil {
		l.counters.foreign.Add(1)
		l.run.note("foreign: connection %d of %s received an event of its room %d, which it did not join", c.index, c.org.id, d.room)
		return
	}
	a := m.receive(d.seq)
	if a != (arrival{}) {
		l.irregular(c, m, d, a)
	}
	if !c.stalled && l.run.measured(d.at) {
		if c.org.noisy {
			l.noisy.record(time.Duration(now - d.at))
		} else {
			l.latency.record(time.Duration(now - d.at))
		}
	}
}

// irregular accounts for an event that is not the next one of its group.
func (l *loop) irregular(c *client, m *membership, d delivery, a arrival) {
	if c.stalled && a.lost > 0 && !a.reordered {
		return // the server may give up events of who does not read
	}
	l.countLost(c, a.lost)
	if a.reordered {
		l.counters.reordered.Add(1)
	}
	if a.duplicated {
		l.counters.duplicated.Add(1)
	}
	l.run.note("connection %d, %s: event %d is out of turn", c.index, m.room.group, d.seq)
}

func (l *loop) countLost(c *client, n int64) {
	if c.org.noisy {
		l.counters.noisyLost.Add(n)
	} else {
		l.counters.lost.Add(n)
	}
}

// frame handles any frame but an event in its usual form.
func (l *loop) frame(c *client, f frame, now int64) {
	switch f.opcode {
	case opPing:
		l.send(c, appendClientFrame(nil, opPong, f.payload))
		return
	case opPong:
		return
	case opClose:
		code := abnormal
		if len(f.payload) >= 2 {
			code = int(binary.BigEndian.Uint16(f.payload))
		}
		_, _ = unix.Write(c.fd, appendClientFrame(nil, opClose, f.payload)) // best effort, as it ends anyway
		l.ended(c, &refusal{code: code})
		return
	case opContinuation:
		c.fragments = append(c.fragments, f.payload...)
		if len(c.fragments) > maxFrame {
			l.run.fail(errFrame)
			return
		}
		if !f.final {
			return
		}
		f = frame{final: true, compressed: c.fragment.compressed, opcode: c.fragment.opcode, payload: c.fragments}
		c.fragments = nil
	default:
		if !f.final {
			c.fragments = append([]byte(nil), f.payload...)
			c.fragment = frame{compressed: f.compressed, opcode: f.opcode}
			return
		}
	}
	if f.compressed {
		if !c.deflated {
			l.run.fail(errFrame)
			return
		}
		plain, err := l.inflater.inflate(f.payload)
		if err != nil {
			l.run.fail(err)
			return
		}
		f.payload = plain
	}
	l.message(c, f.payload, now)
}

// message handles the payload of a whole message.
func (l *loop) message(c *client, p []byte, now int64) {
	if d, ok := parseDelivery(p, c.org.head); ok {
		l.countDeliveries(c, 1)
		l.deliver(c, d, now)
		return
	}
	var m message
	if err := json.Unmarshal(p, &m); err != nil {
		l.counters.unexpected.Add(1)
		l.run.note("connection %d: unexpected frame %.80q", c.index, p)
		return
	}
	if org := m.organization(); org != "" && org != c.org.id.String() {
		l.counters.foreign.Add(1)
		l.run.note("foreign: connection %d of %s received %.120s", c.index, c.org.id, p)
		return
	}
	if d, ok := m.delivery(); ok {
		l.countDeliveries(c, 1)
		l.deliver(c, d, now)
		return
	}
	switch m.Type {
	case "welcome":
		l.subscribe(c)
	case "subscribed":
		l.subscribed(c, m.Group)
	case "gap":
		l.counters.gaps.Add(1)
	case "error":
		if c.state == subscribing {
			l.run.fail(fmt.Errorf("subscribe: server answers %q", m.Code))
			return
		}
		l.counters.unexpected.Add(1)
		l.run.note("connection %d: error frame %q", c.index, m.Code)
	default:
		l.counters.unexpected.Add(1)
		l.run.note("connection %d: unexpected frame %.80s", c.index, p)
	}
}

// subscribe joins all groups of a connection that was just welcomed.
func (l *loop) subscribe(c *client) {
	if c.state != subscribing || c.awaiting > 0 {
		return
	}
	c.awaiting = len(c.memberships)
	if c.awaiting == 0 {
		l.becomeReady(c)
		return
	}
	l.send(c, c.subscriptions())
}

func (l *loop) subscribed(c *client, group string) {
	m := c.membershipByName(group)
	if m == nil || m.confirmed {
		return
	}
	if c.stalled {
		m.confirmed, m.from = true, m.room.last() // nobody waits for who does not read
	} else {
		m.confirm()
	}
	c.awaiting--
	if c.awaiting == 0 {
		l.becomeReady(c)
	}
}

func (l *loop) becomeReady(c *client) {
	c.state = ready
	l.opening--
	l.counters.handshakes.Add(1)
	l.counters.ready.Add(1)
	l.handshake.record(time.Duration(l.run.clock.now() - c.started))
}

// stall stops reading from the connections that are meant for it.
func (l *loop) stall() {
	for _, c := range l.clients {
		if c.stalled && c.state == ready {
			if err := l.poller.control(unix.EPOLL_CTL_DEL, c.fd, 0, 0, 0); err != nil {
				l.run.fail(err)
			}
		}
	}
}

// resume reads on, so that what waits for stalled connections is judged too.
func (l *loop) resume() {
	for _, c := range l.clients {
		if c.stalled && c.state == ready {
			if err := l.poller.control(unix.EPOLL_CTL_ADD, c.fd, unix.EPOLLIN, c.key, c.generation); err != nil {
				l.run.fail(err)
			}
		}
	}
}

// ended handles the end of a connection that the server, or the network, brought about.
func (l *loop) ended(c *client, cause error) {
	wasReady := c.state == ready
	var refused *refusal
	if !errors.As(cause, &refused) {
		refused = &refusal{code: abnormal}
	}
	if l.closing {
		l.hangUp(c)
		return
	}
	if !wasReady {
		l.counters.refused.Add(1)
		l.hangUp(c)
		if refused.permanent() || (errors.Is(cause, unix.ECONNREFUSED) && l.counters.handshakes.Load() == 0) {
			l.run.fail(cause)
			return
		}
		l.run.note("connection %d: %v; trying again", c.index, cause)
		l.retry(c)
		return
	}
	l.run.countClose(refused.code)
	switch {
	case c.stalled:
		l.counters.stalledClosed.Add(1)
		l.hangUp(c)
		return
	case c.org.noisy:
		l.counters.noisyDropped.Add(1)
	default:
		l.counters.dropped.Add(1)
		l.run.note("connection %d: ended by the server with %d", c.index, refused.code)
	}
	l.countOwed(c)
	l.hangUp(c)
	l.retry(c)
}

// countOwed counts as lost what was published for the connection and never came.
func (l *loop) countOwed(c *client) {
	for i := range c.memberships {
		m := &c.memberships[i]
		if owed := m.owed(); owed > 0 {
			l.countLost(c, owed)
			l.run.note("connection %d, %s: the last %d events never came", c.index, m.room.group, owed)
		}
	}
}

// retry opens the connection again after a pause.
func (l *loop) retry(c *client) {
	time.AfterFunc(retryDelay, func() { l.do(func() { l.enqueue(c) }) })
}

// hangUp closes the connection from this side.
func (l *loop) hangUp(c *client) {
	switch c.state {
	case closed:
		return
	case ready:
		l.counters.ready.Add(-1)
		if !c.stalled {
			// A page that is left says goodbye and does not wait for the answer.
			_, _ = unix.Write(c.fd, appendClientFrame(nil, opClose, binary.BigEndian.AppendUint16(nil, goingAway)))
		}
	default:
		l.opening--
	}
	for i := range c.memberships {
		m := &c.memberships[i]
		if c.stalled {
			*m = membership{room: m.room}
		} else {
			m.leave()
		}
	}
	if err := unix.Close(c.fd); err != nil {
		l.run.fail(fmt.Errorf("close: %w", err))
	}
	c.generation++
	c.fd, c.state, c.awaiting = -1, closed, 0
	c.partial, c.fragments, c.out = nil, nil, nil
}

// reopen closes the connection and opens it again.
func (l *loop) reopen(c *client) {
	if c.state != ready || c.stalled {
		return
	}
	l.hangUp(c)
	l.enqueue(c)
}

// owed returns how many events have yet to arrive, and how many connections are not ready.
func (l *loop) owed() (events, unready int64) {
	for _, c := range l.clients {
		if c.stalled {
			continue
		}
		if c.state != ready {
			unready++
			continue
		}
		for i := range c.memberships {
			events += c.memberships[i].owed()
		}
	}
	return events, unready
}
