package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"time"
)

const (
	// deadlineSlack is how old a write deadline may be: setting one costs more than a short write,
	// so it is renewed at most this often.
	deadlineSlack = time.Second
	// freshBytes is what a socket takes at once if nothing was written to it.
	freshBytes = 1 << 10
	// pieceSize is how much a write that may wait gives to the socket at once. Before each piece it
	// checks whether the connection is muted.
	pieceSize = 16 << 10
)

// writeControl sends a pong of coder/websocket, which hands over each control frame in one call. It
// drops coder/websocket's close frames: the caller sends its own when earlier messages are handled.
//
// It does not report a dead socket: what the peer has sent before must still be read.
func (c *Conn) writeControl(p []byte) (int, error) {
	if len(p) > 0 && p[0]&opMask == opClose {
		return len(p), nil // without waiting for a write under way
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return len(p), nil
	}
	c.renewDeadline()
	if err := c.send(p); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		c.Expire(c.options.CloseTimeout)
	}
	return len(p), nil
}

// Write sends whole data frames, or a ping. It waits for the peer, up to WriteTimeout. It returns
// [ErrMuted] if frames were left out, and [ErrClosing] after the close frame.
func (c *Conn) Write(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosing
	}
	c.renewDeadline()
	if err := c.sendRest(); err != nil {
		return err
	}
	return c.sendPieces(frames, 0, false)
}

// Direct reports whether TryWrite can send at all.
func (c *Conn) Direct() bool { return c.fd >= 0 }

// Outcome is the result of TryWrite.
type Outcome int

// The outcomes.
const (
	SentNone Outcome = iota // there was no room at all
	SentPart                // the Conn keeps the rest, for Finish
	SentAll
)

// How tells TryWrite about its bytes.
type How uint8

// They can be combined.
const (
	Reused How = 1 << iota // the caller will reuse the bytes
	Last                   // they end with the close frame
)

// TryWrite sends as much of whole frames as the socket takes at once. It never waits, neither for
// the socket nor for another writer. If it has sent a part, the Conn keeps the rest, and
// [Conn.Finish] sends it. After an error nothing more can be sent.
func (c *Conn) TryWrite(frames []byte, how How) (Outcome, error) {
	if !c.mu.TryLock() {
		return SentNone, nil // coder/websocket is sending a control frame
	}
	defer c.mu.Unlock()
	if c.closed {
		return SentNone, ErrClosing
	}
	if c.rest != nil && !c.greets || c.muted.Load() && frames[0]&opMask != opClose {
		return SentNone, nil // Write decides what may leave
	}
	if c.greets {
		return c.tryGreet(frames, how)
	}
	n, all, err := c.sendNow(frames)
	switch {
	case err != nil:
		c.closed = true
		return SentNone, err
	case n == 0:
		return SentNone, nil
	case all:
		c.closed = how&Last != 0
		return SentAll, nil
	}
	c.rest, c.restLast = frames[n:], how&Last != 0
	c.begun = frameEnd(frames, n) - n
	if how&Reused != 0 {
		c.rest = bytes.Clone(c.rest)
	}
	return SentPart, nil
}

// greetWith has the answer to the handshake leave before everything else. Nobody else has the Conn yet.
func (c *Conn) greetWith(answer []byte) { c.rest, c.begun, c.greets = answer, len(answer), true }

// Begin sends the answer to the handshake, unless it has left together with frames. It does not
// wait for another writer: that one sends the answer first.
func (c *Conn) Begin() error {
	if !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	if !c.greets {
		return nil
	}
	return c.sendRest()
}

// tryGreet implements TryWrite for the first frames: the answer to the handshake goes with them, so
// that both take one packet, and one record of TLS. Its caller holds mu.
func (c *Conn) tryGreet(frames []byte, how How) (Outcome, error) {
	answer := len(c.rest)
	all := append(c.rest, frames...)
	var n int
	var done bool
	var err error
	if c.carrier == nil && len(all) <= freshBytes {
		// As net/http writes answers: with the race detector, what was done for a handshake happens
		// before what its client does next.
		n, err = c.conn.Write(all)
		done = err == nil
	} else {
		n, done, err = c.sendNow(all)
	}
	switch {
	case err != nil:
		c.closed = true
		return SentNone, err
	case n == 0:
		return SentNone, nil
	}
	c.greets = false
	if done {
		recycleGreeting(c.rest)
		c.rest, c.closed = nil, how&Last != 0
		return SentAll, nil
	}
	c.rest, c.begun, c.restLast = all[n:], answer-n, how&Last != 0
	if n > answer {
		c.begun = frameEnd(frames, n-answer) - (n - answer)
	}
	return SentPart, nil
}

// Finish sends the rest that TryWrite left. It waits, and fails, as Write does.
func (c *Conn) Finish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewDeadline()
	return c.sendRest()
}

// sendRest completes what TryWrite began. Its caller holds mu.
func (c *Conn) sendRest() error {
	if c.carrier != nil {
		if err := c.carrier.flush(); err != nil {
			c.closed = true
			return err
		}
	}
	if c.rest == nil {
		return nil
	}
	rest := c.rest
	c.rest, c.greets = nil, false
	return c.sendPieces(rest, c.begun, c.restLast)
}

// sendPieces writes frames. The first begun bytes complete a frame whose beginning has left, so
// they are always written. If the Conn is muted meanwhile, only the close frame follows, if last
// says that there is one. After any error except ErrMuted nothing may follow, because a frame may
// have been cut short. Its caller holds mu.
func (c *Conn) sendPieces(frames []byte, begun int, last bool) error {
	muted := false
	for sent := 0; sent < len(frames); {
		end := sent + begun
		begun = 0
		if muted = muted || c.muted.Load(); muted && end == sent {
			if !last {
				return ErrMuted
			}
			sent, end = lastFrame(frames, sent), len(frames)
		}
		for !muted && end < len(frames) && end-sent < pieceSize {
			end += frameEnd(frames[end:], 1)
		}
		if err := c.write(frames[sent:end]); err != nil {
			c.closed = true
			return err
		}
		sent = end
	}
	c.closed = c.closed || last
	return nil
}

// frameEnd returns the end of the frame that contains the byte before n, in a run of whole frames
// as a server sends them (RFC 6455, section 5.2, without masks).
func frameEnd(frames []byte, n int) int {
	end := 0
	for end < n {
		head := frames[end:]
		switch length := int(head[1]); length {
		case 126:
			end += 4 + int(binary.BigEndian.Uint16(head[2:]))
		case 127:
			end += 10 + int(binary.BigEndian.Uint64(head[2:])) //nolint:gosec // our own, and in memory
		default:
			end += 2 + length
		}
	}
	return end
}

// lastFrame returns where the last frame begins, in a run of whole frames that starts at from.
func lastFrame(frames []byte, from int) int {
	for {
		next := from + frameEnd(frames[from:], 1)
		if next == len(frames) {
			return from
		}
		from = next
	}
}

// send writes b. After an error nothing may follow, because a frame may have been cut short. Its
// caller holds mu.
func (c *Conn) send(b []byte) error {
	if err := c.sendRest(); err != nil && !errors.Is(err, ErrMuted) {
		return err
	}
	if c.closed {
		return ErrClosing
	}
	err := c.write(b)
	if err != nil {
		c.closed = true
	}
	return err
}

// write sends bytes, and waits for the peer. sendRest was called before. Its caller holds mu.
func (c *Conn) write(b []byte) error {
	if c.carrier == nil {
		_, err := c.conn.Write(b)
		return err
	}
	for len(b) > 0 {
		n, err := c.conn.Write(b[:min(len(b), pieceSize)])
		if err == nil {
			err = c.carrier.flush()
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// sendNow sends what the socket takes at once, and returns how much has begun to leave. all says
// that everything has left. A record of TLS leaves as a whole, so under TLS the last record may
// wait in the carrier. Its caller holds mu.
func (c *Conn) sendNow(b []byte) (n int, all bool, err error) {
	if c.carrier == nil {
		n, err = sendNow(c.fd, b)
		return n, n == len(b), err
	}
	all, err = c.carrier.clear()
	for all && err == nil && n < len(b) {
		var sealed int
		sealed, err = c.conn.Write(b[n:min(n+pieceSize, len(b))])
		n += sealed
		all = c.carrier.empty()
	}
	return n, all && n == len(b), err
}

// renewDeadline bounds the next write. Its caller holds mu.
func (c *Conn) renewDeadline() {
	now := time.Now()
	age := now.Sub(c.opened)
	if c.final.Load() || c.deadline > 0 && age-c.deadline < deadlineSlack {
		return
	}
	c.deadline = max(age, 1)
	_ = c.conn.SetWriteDeadline(now.Add(c.options.WriteTimeout + deadlineSlack)) // a dead socket shows at the write
	if c.final.Load() {
		c.setFinal(c.options.WriteTimeout) // Expire came in between
	}
}
