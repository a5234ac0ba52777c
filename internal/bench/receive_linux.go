package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

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
		if !l.run.opts.SSE {
			l.goodbye(c, f.payload)
		}
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
		l.deliver(c, d, p, now)
		return
	}
	inner := p
	var outer envelope
	if json.Unmarshal(p, &outer) == nil && outer.Event != nil {
		inner = outer.Event
	}
	var m message
	if err := json.Unmarshal(inner, &m); err != nil {
		l.counters.unexpected.Add(1)
		l.run.note("connection %d: unexpected frame %.80q", c.index, p)
		return
	}
	if org := m.organization(); org != "" && org != c.org.id.String() {
		l.counters.foreign.Add(1)
		l.run.note("foreign: connection %d of %s received %.120s", c.index, c.org.id, p)
		return
	}
	if outer.Event != nil {
		if d, ok := m.delivery(); ok {
			l.countDeliveries(c, 1)
			l.deliver(c, d, eventTail(outer.Group), now)
			return
		}
		m.Type = "" // it is no frame of the server's own, whatever its type
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
	if !l.run.opts.SSE { // its request has named them
		l.send(c, c.subscriptions())
	}
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

// deliver accounts for one event of the connection's organization, which came in p.
func (l *loop) deliver(c *client, d delivery, p []byte, now int64) {
	m := c.membership(d.room)
	if m == nil {
		l.counters.foreign.Add(1)
		l.run.note("foreign: connection %d of %s received an event of its room %d, which it did not join", c.index, c.org.id, d.room)
		return
	}
	if !bytes.HasSuffix(p, m.room.tail) {
		l.counters.foreign.Add(1)
		l.run.note("foreign: connection %d of %s received an event of %s under another group: %.20q", c.index, c.org.id, m.room.group, p[max(0, len(p)-20):])
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

func (l *loop) countDeliveries(c *client, n int64) {
	if c.org.noisy {
		l.counters.noisyDeliveries.Add(n)
	} else {
		l.counters.deliveries.Add(n)
	}
}

func (l *loop) countLost(c *client, n int64) {
	if c.org.noisy {
		l.counters.noisyLost.Add(n)
	} else {
		l.counters.lost.Add(n)
	}
}
