package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ended handles a connection that the server, or the network, ended.
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

// countOwed counts events as lost that were published for the connection and did not arrive.
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
		if !c.stalled && !l.run.opts.SSE {
			// A closed page sends a close frame and does not wait for the answer.
			l.goodbye(c, binary.BigEndian.AppendUint16(nil, goingAway))
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
	if c.secure != nil {
		_ = c.secure.Close() // it cannot fail
	}
	c.generation++
	c.fd, c.secure, c.state, c.awaiting = -1, nil, closed, 0
	c.partial, c.fragments, c.out = nil, nil, nil
}

// goodbye sends a close frame, if the socket has room.
func (l *loop) goodbye(c *client, content []byte) {
	frame := appendClientFrame(nil, opClose, content)
	if c.secure == nil {
		_, _ = unix.Write(c.fd, frame) // the connection ends anyway
	} else if len(c.out) == 0 {
		_, _ = c.secure.tls.Write(frame) // likewise
	}
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
