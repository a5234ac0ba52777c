package bench

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// handle serves one socket that is ready for something.
func (l *loop) handle(c *client, events uint32) {
	if c.state == connecting {
		if err := dialed(c.fd); err != nil {
			l.ended(c, err)
			return
		}
		if c.server.secure {
			l.shakeHands(c)
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
	switch {
	case events&^unix.EPOLLOUT == 0 || c.state == closed:
	case c.state == securing:
		l.feed(c.secure)
	default:
		l.read(c)
	}
}

// send writes b, now or when the socket has room.
func (l *loop) send(c *client, b []byte) {
	if c.secure == nil {
		l.sendBytes(c, b)
	} else if _, err := c.secure.tls.Write(b); err != nil && c.state != closed {
		l.ended(c, fmt.Errorf("write: %w", err))
	}
}

// sendBytes is send below TLS.
func (l *loop) sendBytes(c *client, b []byte) {
	waiting := len(c.out) > 0
	c.out = append(c.out, b...)
	if !waiting {
		l.flush(c, false)
	}
}

// flush writes pending bytes. waited says that epoll already watches for room.
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

// read reads arrived bytes and handles every complete frame in them. Epoll does not know of bytes
// within crypto/tls, so there must not be any left.
func (l *loop) read(c *client) {
	if c.secure == nil {
		l.readOnce(c, func(b []byte) (int, error) { return readSocket(c.fd, b) })
		return
	}
	for l.readOnce(c, c.secure.tls.Read) {
	}
}

// readOnce is read for what one call of from returns. more is false if it returned nothing, or was
// the last.
func (l *loop) readOnce(c *client, from func([]byte) (int, error)) (more bool) {
	kept := copy(l.buf, c.partial)
	n, err := from(l.buf[kept:])
	switch {
	case n > 0:
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, errNothing):
		return false
	case err != nil && !errors.Is(err, io.EOF):
		l.ended(c, fmt.Errorf("read: %w", err))
		return false
	default:
		l.ended(c, &refusal{code: abnormal})
		return false
	}
	b := l.buf[:kept+n]
	if c.state == upgrading {
		size, deflated, err := l.parseHead(b)
		if err != nil {
			if !errors.As(err, new(*refusal)) {
				l.run.fail(err)
			}
			l.ended(c, err)
			return false
		}
		if size == 0 {
			c.partial = append(c.partial[:0], b...)
			return true
		}
		b = b[size:]
		l.upgraded(c, deflated)
	}
	l.frames(c, b)
	return c.state != closed
}

// parseHead reads the response to the request that opens a connection.
func (l *loop) parseHead(b []byte) (n int, deflated bool, err error) {
	if l.run.opts.SSE {
		n, err = parseStream(b)
		return n, false, err
	}
	return parseUpgrade(b)
}

// upgraded records that the connection is open.
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
	next := nextFrame
	if l.run.opts.SSE {
		next = nextEvent
	}
	for {
		f, n, err := next(b)
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
				l.deliver(c, d, f.payload, now)
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
