package redislink

import (
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// canary is a numbered message that Redis accepted and the link has not brought yet.
type canary struct {
	number   int
	accepted time.Time
}

// health is what a link has shown. It does no I/O and asks no clock. Its methods are safe for
// concurrent use.
type health struct {
	nonce    string    // marks this link's canaries
	openedAt time.Time // fixed before anything arrives

	arrival atomic.Int64 // of anything at all, since openedAt

	mu          sync.Mutex
	channel     string    // of the canaries
	on          bool      // they arrive there
	lastCanary  time.Time // arrival
	returned    int       // number of the last canary that arrived, 0 before the first
	sending     canary    // the last one, with the moment of its sending
	accepted    []canary  // not returned, oldest first
	asked       time.Time // when the question for the role under way was sent, zero without one
	answeredAsk time.Time // when the last one that was answered was sent
}

// arrived takes note that something arrived. It is called for every message, so it takes no lock.
func (h *health) arrived(now time.Time) { h.arrival.Store(int64(now.Sub(h.openedAt))) }

// setCanary takes note of where the canaries arrive. Those under way to another channel do not
// count.
func (h *health) setCanary(channel string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.channel, h.on = channel, on
	if !on {
		h.accepted = nil
	}
}

// nextCanary returns the next one. channel is "" if canaries do not arrive at present.
func (h *health) nextCanary(now time.Time) (channel, payload string, number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sending = canary{number: h.sending.number + 1, accepted: now}
	if !h.on {
		return "", "", 0
	}
	return h.channel, h.nonce + ":" + strconv.Itoa(h.sending.number), h.sending.number
}

// canaryAccepted takes note that Redis accepted a canary.
func (h *health) canaryAccepted(channel string, number int, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number > h.returned && h.on && h.channel == channel {
		h.accepted = append(h.accepted, canary{number: number, accepted: now})
	}
}

// canaryReturned takes note of a canary. Those of earlier links and of nodes of the same name do
// not count. latest says that it is the last one that was sent, and took how long it was under way.
func (h *health) canaryReturned(payload string, now time.Time) (took time.Duration, latest bool) {
	nonce, text, _ := strings.Cut(payload, ":")
	number, err := strconv.Atoi(text)
	h.mu.Lock()
	defer h.mu.Unlock()
	if nonce != h.nonce || err != nil || number <= h.returned || number > h.sending.number {
		return 0, false
	}
	h.lastCanary, h.returned = now, number
	for len(h.accepted) > 0 && h.accepted[0].number <= number {
		h.accepted = h.accepted[1:]
	}
	return now.Sub(h.sending.accepted), number == h.sending.number
}

// ask reports whether the question for the role is due, and notes it as sent.
func (h *health) ask(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() {
		return false
	}
	h.asked = now
	return true
}

// answered takes note of a master's answer to the question for its role.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answeredAsk, h.asked = h.asked, time.Time{}
}

// judge returns why the link must be given up, if it must. unconfirmed is when the oldest command
// was sent that has not been confirmed.
//
// A link is lost when it is silent although it was asked for an answer: the server hangs or is
// gone. It is deaf when a canary that the server accepted, or a confirmation, is overdue and yet a
// question sent later was answered: a master that was deposed, for example. The answers come in
// order, so a link that merely has much to carry, its canary waiting in line behind a burst of
// events, is neither; giving up that one would add lost events to the load.
func (h *health) judge(now time.Time, timeout time.Duration, strict bool, unconfirmed time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	overdue := func(since time.Time) bool {
		return now.Sub(since) > timeout && h.answeredAsk.After(since)
	}
	switch {
	case !h.asked.IsZero() && now.Sub(h.asked) > timeout && now.Sub(h.openedAt)-time.Duration(h.arrival.Load()) > timeout:
		return errSilent
	case len(h.accepted) > 0 && overdue(h.accepted[0].accepted):
		return ErrNoCanary
	case !unconfirmed.IsZero() && overdue(unconfirmed):
		return errUnconfirmed
	case strict && now.Sub(h.openedAt) > timeout && now.Sub(h.lastCanary) > timeout:
		return errNoneAtAll
	}
	return nil
}

// healthy returns nil if a canary arrived within the timeout.
func (h *health) healthy(now time.Time, timeout time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.lastCanary) > timeout {
		return ErrNoCanary
	}
	return nil
}

// jittered returns a pause of the given mean.
func jittered(mean time.Duration) time.Duration {
	return mean*4/5 + mathrand.N(mean*2/5+1) //nolint:gosec // jitter is no secret
}
